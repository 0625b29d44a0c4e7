"""Trees to files and back, whole or not at all."""

import os
import stat

import numpy as np
import pytest
import xarray as xr

from ppl_models import files
from ppl_models.errors import FileError
from ppl_models.posterior import Labels, from_netcdf, make_tree, to_netcdf


@pytest.fixture
def tree():
    rng = np.random.default_rng(0)
    return make_tree(
        {
            "posterior": {"mu": rng.normal(size=(2, 5)), "theta": rng.normal(size=(2, 5, 3)).astype(np.float32)},
            "sample_stats": {"diverging": rng.random((2, 5)) < 0.5, "lp": np.full((2, 5), -np.inf)},
            "observed_data": {"y": np.array([1, 0, 2])},
        },
        Labels(
            {"school": ["Choate", "Déerfield", "Ænder"], "row": [2020, 2021, 2022]}, {"theta": ["school"], "y": ["row"]}
        ),
        attrs={"seed": 3, "config": {"guide": "normal"}, "seconds": 0.25},
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_round_trip_is_identical(tree, tmp_path):
    path = to_netcdf(tree, tmp_path / "new folder" / "draws.nc")
    back = from_netcdf(path)
    assert path.is_absolute()
    assert back.attrs == tree.attrs
    assert set(back.children) == set(tree.children)
    for name, group in tree.children.items():
        xr.testing.assert_identical(back[name].to_dataset(), group.to_dataset())
        for variable in group.data_vars:
            assert back[name][variable].dtype == group[variable].dtype


def test_file_is_closed_after_reading(tree, tmp_path):
    path = to_netcdf(tree, tmp_path / "draws.nc")
    from_netcdf(path)
    to_netcdf(tree, path)
    from_netcdf(str(path))


@pytest.mark.parametrize("content", [None, b"", b"not a netCDF file"])
def test_unreadable_file_is_named(content, tmp_path):
    path = tmp_path / "draws.nc"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FileError, match=r"draws\.nc"):
        from_netcdf(path)


class _Failing:
    """A tree whose writing stops half-way."""

    def __init__(self, error):
        self.error = error

    def to_netcdf(self, path, engine):
        path.write_bytes(b"half of it")
        raise self.error


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (OSError(28, "No space left on device"), FileError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (ValueError(), ValueError),
    ],
)
def test_half_written_file_never_appears(error, wanted, tree, tmp_path):
    path = to_netcdf(tree, tmp_path / "draws.nc")
    before = path.read_bytes()
    with pytest.raises(wanted):
        to_netcdf(_Failing(error), path)
    assert path.read_bytes() == before
    with pytest.raises(wanted):
        to_netcdf(_Failing(error), tmp_path / "other.nc")
    assert names(tmp_path) == ["draws.nc"]


def test_failing_move_leaves_nothing(monkeypatch, tmp_path):
    def refuse(self, target):
        raise OSError(13, "Permission denied")

    monkeypatch.setattr(files.Path, "replace", refuse)
    with pytest.raises(FileError, match="Permission denied"):
        files.write_whole(tmp_path / "a.txt", lambda path: path.write_text("content"))
    assert names(tmp_path) == []


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot write"):
        files.write_whole(tmp_path / "file" / "draws.nc", lambda path: None)


def test_file_has_the_usual_mode(tmp_path):
    mask = os.umask(0o022)
    try:
        path = files.write_whole(tmp_path / "a.txt", lambda path: path.write_text("content"))
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
