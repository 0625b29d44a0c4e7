"""Trees to NetCDF files and back."""

from pathlib import Path

import xarray as xr

from ppl_models.errors import FileError, first_line
from ppl_models.files import write_whole


def to_netcdf(tree: xr.DataTree, path: str | Path) -> Path:
    """Write a tree of draws to one NetCDF file; the file appears only when it is complete.

    Args:
        tree: draws in ArviZ's schema.
        path: name of the file, by custom ending in `.nc`.

    Returns:
        The path written, resolved.

    Raises:
        FileError: the file cannot be written.
    """
    return write_whole(path, lambda temporary: tree.to_netcdf(temporary, engine="h5netcdf"))


def from_netcdf(path: str | Path) -> xr.DataTree:
    """Read a tree of draws into memory, and leave the file closed.

    Raises:
        FileError: the file is missing or is no NetCDF file of draws.
    """
    try:
        with xr.open_datatree(Path(path).expanduser(), engine="h5netcdf") as tree:
            return tree.load()
    except (OSError, ValueError, KeyError) as error:
        raise FileError(f"cannot read draws from {path}: {first_line(error)}.") from error
