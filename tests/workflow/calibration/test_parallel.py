"""Refits in other processes give the same ranks; what is finished is kept, and gone on from."""

import json
import threading

import joblib
import numpy as np
import pytest
from joblib._parallel_backends import LokyBackend

import ppl_models as ppl
from ppl_models.errors import FileError
from tests.workflow.calibration import exact

OPTIONS = {"num_simulations": 25, "num_draws": 39}


@pytest.mark.slow
@pytest.mark.statistical
def test_the_ranks_do_not_depend_on_the_workers(fit, refits, monkeypatch):
    alone = ppl.calibrate(fit, n_jobs=1, **OPTIONS)
    together = ppl.calibrate(fit, n_jobs=2, **OPTIONS)
    assert alone.ranks.equals(together.ranks)
    # Other backends give their results all at once.
    monkeypatch.setattr(LokyBackend, "supports_return_generator", False)
    with joblib.parallel_config(backend="loky", n_jobs=2):
        assert alone.ranks.equals(ppl.calibrate(fit, **OPTIONS).ranks)


def test_threads_make_one_after_another(fit, refits, monkeypatch):
    seen = set()
    draws = exact.ExactSpec.draws

    def watched(self, *args, **options):
        seen.add(threading.get_ident())
        return draws(self, *args, **options)

    monkeypatch.setattr(exact.ExactSpec, "draws", watched)
    with joblib.parallel_config(backend="threading", n_jobs=2):
        ppl.calibrate(fit, **OPTIONS)
    assert seen == {threading.get_ident()}


def count_refits(monkeypatch):
    made = []
    draws = exact.ExactSpec.draws

    def counted(self, data, num_draws, *, seed):
        made.append(seed)
        return draws(self, data, num_draws, seed=seed)

    monkeypatch.setattr(exact.ExactSpec, "draws", counted)
    return made


def test_goes_on_where_it_stopped(fit, refits, tmp_path, monkeypatch):
    made = count_refits(monkeypatch)
    whole = ppl.calibrate(fit, n_jobs=1, **OPTIONS)
    made.clear()
    ppl.calibrate(fit, n_jobs=1, folder=tmp_path, **{**OPTIONS, "num_simulations": 13})
    assert len(made) == 13
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "block_00000.npz",
        "block_00001.npz",
        "calibration.json",
    ]
    resumed = ppl.calibrate(fit, n_jobs=1, folder=tmp_path, **OPTIONS)
    assert len(made) == len(set(made)) == 25
    assert resumed.ranks.equals(whole.ranks)
    again = ppl.calibrate(fit, n_jobs=1, folder=tmp_path, **OPTIONS)
    assert len(made) == 25
    assert again.ranks.equals(whole.ranks)
    fewer = ppl.calibrate(fit, n_jobs=1, folder=tmp_path, **{**OPTIONS, "num_simulations": 13})
    assert fewer.ranks.equals(whole.ranks.isel(simulation=slice(0, 13)))


def test_an_interruption_keeps_finished_blocks(fit, refits, tmp_path, monkeypatch):
    draws = exact.ExactSpec.draws
    made = []

    def stops(self, data, num_draws, *, seed):
        made.append(seed)
        if len(made) == 15:
            raise KeyboardInterrupt
        return draws(self, data, num_draws, seed=seed)

    monkeypatch.setattr(exact.ExactSpec, "draws", stops)
    with pytest.raises(KeyboardInterrupt):
        ppl.calibrate(fit, n_jobs=1, folder=tmp_path, **OPTIONS)
    assert [path.name for path in tmp_path.glob("*.npz")] == ["block_00000.npz"]
    found = ppl.calibrate(fit, n_jobs=1, folder=tmp_path, **OPTIONS)
    assert found.status == "complete"
    assert len(made) == 15 + 15


@pytest.mark.parametrize("option", [{"seed": 1}, {"num_draws": 49}, {"kind": "symmetry"}])
def test_another_calibration_is_refused(fit, refits, tmp_path, option):
    ppl.calibrate(fit, n_jobs=1, folder=tmp_path, **OPTIONS)
    with pytest.raises(FileError, match=f"holds another calibration; what differs: .*{next(iter(option))}"):
        ppl.calibrate(fit, n_jobs=1, folder=tmp_path, **{**OPTIONS, **option})


def test_another_model_is_refused(fit, refits, tmp_path):
    ppl.calibrate(fit, n_jobs=1, folder=tmp_path, **OPTIONS)

    def other(scale, y=None):
        return exact.model(2.0 * scale, y)

    with pytest.raises(FileError, match="what differs: model"):
        ppl.calibrate(ppl.fit(other, exact.DATA, guide="laplace", seed=1), n_jobs=1, folder=tmp_path, **OPTIONS)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "parts"])
def test_a_damaged_block_is_refused_by_name(fit, refits, tmp_path, damage):
    ppl.calibrate(fit, n_jobs=1, folder=tmp_path, **OPTIONS)
    path = tmp_path / "block_00001.npz"
    content = path.read_bytes()
    if damage == "parts":
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        np.savez(path, **{**arrays, "seconds": arrays["seconds"][:3]})
    else:
        path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "text": b"no zip"}[damage])
    with pytest.raises(FileError, match=r"block_00001\.npz: damaged"):
        ppl.calibrate(fit, n_jobs=1, folder=tmp_path, **OPTIONS)
    path.unlink()
    assert ppl.calibrate(fit, n_jobs=1, folder=tmp_path, **OPTIONS).status == "complete"


def test_a_damaged_or_missing_header_is_refused(fit, refits, tmp_path):
    ppl.calibrate(fit, n_jobs=1, folder=tmp_path, **OPTIONS)
    header = tmp_path / "calibration.json"
    assert json.loads(header.read_text())["format"] == "ppl-models calibration 1"
    header.write_text("{")
    with pytest.raises(FileError, match="damaged"):
        ppl.calibrate(fit, n_jobs=1, folder=tmp_path, **OPTIONS)
    header.unlink()
    with pytest.raises(FileError, match="without"):
        ppl.calibrate(fit, n_jobs=1, folder=tmp_path, **OPTIONS)
