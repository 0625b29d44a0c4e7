"""The README's example runs and prints what the README shows; its links lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
NUMBER = re.compile(r"-?\d[\d,]*\.?\d*(?:e[+-]?\d+)?")


def _block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)
    assert found, f"the README has no {language} block"
    return found.group(1)


@pytest.mark.slow
def test_example_prints_what_the_readme_shows(capsys):
    exec(compile(_block("python"), "README.md", "exec"), {"__name__": "readme"})
    printed, shown = capsys.readouterr().out.strip(), _block("text").strip()
    # Other processors round differently, and over a thousand steps that shows: the words agree, the numbers may not.
    assert _words(printed.splitlines()[0]) == _words(shown.splitlines()[0])
    assert [_words(line)[:2] for line in _checks(printed)] == [_words(line)[:2] for line in _checks(shown)]
    assert "verdict: reject" in printed
    assert "beyond its limit of 0.70" in printed


def test_relative_links_lead_to_files():
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_commands_are_targets_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"make ([a-z]+)\b", README)) - {"and"}:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def _words(line: str) -> list[str]:
    return NUMBER.sub("#", line).split()


def _checks(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("  ") and line.split()[0] in ("pass", "FAIL", "?")]
