import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch

import ppl_models as ppl
from ppl_models.errors import DataError, FileError, OptionError
from ppl_models.report import html, write_page, write_report

HOSTILE = "<script>alert('x')</script> & \"quoted\" {{ 7 * 7 }}"
FETCHING = {"src", "href", "srcset", "action", "data", "poster", "background", "xlink:href"}
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Collects tags and attributes, and checks that tags are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.open, self.ids = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(judged, evidence, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "page.html"
    write_page(
        path,
        evidence,
        baseline=judged.baseline,
        title=HOSTILE,
        name="eight <b>schools</b>",
        cite=f"https://example.org/paper {HOSTILE}",
        seconds={"fits": 1.25},
        failures={"laplace": f"no mode: {HOSTILE}"},
    )
    return path.read_text(encoding="utf-8")


def test_mistaken_fits_are_refused_by_what_they_are(tmp_path):
    for wrong in (["a fit"], [3], 3, "fits"):
        with pytest.raises(ppl.PPLError, match="pairs"):
            ppl.write_report(tmp_path / "page.html", wrong)


def test_page_asks_nothing_of_the_network(page):
    parsed = Page(page)
    assert "script" not in parsed.tags
    for _, name, value in parsed.attributes:
        if name in FETCHING:
            assert value.startswith(("data:", "#")), (name, value[:80])
    assert "@import" not in page
    assert not re.search(r"url\(\s*['\"]?(?!data:)", page)


def test_all_text_is_escaped(page):
    assert "<script" not in page
    assert "&lt;script&gt;alert(" in page
    assert "{{ 7 * 7 }}" in page
    assert "<b>" not in page


def test_names_of_parameters_are_escaped(tmp_path):
    def model(y):
        z = pyro.sample("<script>", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        pyro.sample("y", dist.Normal(z, 1.0).to_event(1), obs=y)

    labels = {"coords": {"part": ["<b>first</b>", "& second"]}, "dims": {"<script>": ["part"], "y": ["part"]}}
    fit = ppl.fit(model, {"y": torch.tensor([0.5, 1.0])}, guide="normal", method="dadvi", seed=1, **labels)
    path = write_report(tmp_path / "page.html", [(fit, ppl.check(fit))], predictions=False)
    text = path.read_text(encoding="utf-8")
    Page(text)
    assert "<script" not in text
    assert "<b>" not in text
    assert "&lt;script&gt;[&lt;b&gt;first&lt;/b&gt;]" in text


def test_page_says_which_rule_fired_what_to_do_and_what_it_cost(one_of_two_modes, tmp_path):
    path = write_report(tmp_path / "page.html", [one_of_two_modes], predictions=False)
    text = path.read_text(encoding="utf-8")
    parsed = Page(text)
    assert "details" in parsed.tags
    plain = " ".join(re.sub(r"<[^>]+>", " ", text).split())
    for words in (
        "The row for (pool, wrong, good) says “correct”",
        "becomes “reject”",
        "fit = ppl.fit(model, data, guide=&#39;mixture&#39;)",
        "The figures show the pool",
        "What the gradients say of each parameter",
        "What the checks cost",
        "all checks",
        "(this fit, then replaced)",
    ):
        assert words in plain


@pytest.mark.parametrize(
    ("verdict", "call"),
    [
        ("trust", "draws = fit.sample(4_000, seed=2)"),
        ("correct", "better = ppl.correct(fit)"),
        ("reject", "guide=&#39;auto&#39;"),
    ],
)
def test_each_verdict_names_the_next_call(one_of_two_modes, tmp_path, verdict, call):
    fit, found = one_of_two_modes
    path = write_report(tmp_path / "page.html", [(fit, replace(found, verdict=verdict))], predictions=False)
    assert call in path.read_text(encoding="utf-8")


def test_verdict_comes_in_words_before_any_table(page, judged):
    verdict = judged.pairs["normal"][1]
    first_table = page.index("<table")
    assert page.index(verdict.verdict) < first_table
    for reason in verdict.reasons:
        assert page.index(reason.split("`")[0][:40]) < first_table


def test_page_holds_the_evidence(page, judged, evidence):
    parsed = Page(page)
    for fit, verdict in judged.pairs.values():
        assert all(check.name in page for check in verdict.checks)
        assert fit.status in page
    assert all(f"guide-{number}" in parsed.ids for number in (1, 2))
    assert all(("a", "href", f"#guide-{number}") in parsed.attributes for number in (1, 2))
    images = [value for tag, name, value in parsed.attributes if tag == "img" and name == "src"]
    assert len(images) >= 8
    for words in ("theta[Choate]", "1.2 s", "laplace", "not fitted", "pyro-ppl", "num particles"):
        assert words in page
    assert "<code>tau</code>" in page


def test_every_image_says_what_it_is_and_how_large(page):
    tags = re.findall(r"<img [^>]*>", page)
    assert all(re.search(r'alt="[^"]+"', tag) and re.search(r'width="\d+" height="\d+"', tag) for tag in tags)


def test_same_evidence_gives_the_same_page(one_of_two_modes, tmp_path):
    paths = [write_report(tmp_path / name, [one_of_two_modes], predictions=False) for name in ("a.html", "b.html")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_guides_of_one_name_keep_their_anchors_apart(one_of_two_modes, tmp_path):
    path = write_report(tmp_path / "two.html", [one_of_two_modes, one_of_two_modes], predictions=False)
    parsed = Page(path.read_text(encoding="utf-8"))
    assert len(set(parsed.ids)) == len(parsed.ids)


def test_report_returns_its_path_and_makes_the_folder(one_of_two_modes, tmp_path):
    path = write_report(tmp_path / "new" / "fit.html", {"mine": one_of_two_modes}, title="My model")
    assert path == (tmp_path / "new" / "fit.html").resolve()
    assert "mine: " in path.read_text(encoding="utf-8")


def test_report_appears_only_when_complete(one_of_two_modes, tmp_path, monkeypatch):
    path = tmp_path / "fit.html"
    path.write_text("the old report", encoding="utf-8")

    def full_disk(self, text, encoding):
        self.write_bytes(text[:100].encode(encoding))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(FileError, match="No space left"):
        write_report(path, [one_of_two_modes], predictions=False)
    monkeypatch.undo()
    assert path.read_text(encoding="utf-8") == "the old report"
    assert [file.name for file in tmp_path.iterdir()] == ["fit.html"]


def test_report_is_not_begun_when_the_page_cannot_be_made(one_of_two_modes, tmp_path, monkeypatch):
    monkeypatch.setattr(html, "TEMPLATE", "missing.j2")
    with pytest.raises(Exception, match=r"missing\.j2"):
        write_report(tmp_path / "fit.html", [one_of_two_modes], predictions=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fits", [[], [("fit", "verdict")], {"a": ()}])
def test_what_is_no_fit_is_refused(fits, tmp_path):
    with pytest.raises(OptionError, match="fits"):
        write_report(tmp_path / "fit.html", fits)


def test_baseline_without_draws_is_refused(one_of_two_modes, tmp_path):
    with pytest.raises(DataError, match="baseline"):
        write_report(tmp_path / "fit.html", [one_of_two_modes], baseline={"tau": 1})
