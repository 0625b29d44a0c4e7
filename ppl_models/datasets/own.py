"""The user's own data as the dictionary of arrays that the shipped loaders give, whatever holds them."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ppl_models.datasets.loaders import Arrays
from ppl_models.errors import DataError


def rows_of(
    source: Any, *, labels: Any = None, layer: str | None = None, transform: Callable[[Any], Any] | None = None
) -> Arrays:
    """Arrays, tables, image data sets and AnnData in one form: a row for each datum.

    Args:
        source: One of
            - an array or table with its rows on the first axis: NumPy, pandas, torch, xarray, SciPy sparse;
            - a pair (rows, labels) of such;
            - a data set of images or other items: anything with a length whose elements are items or (item, label)
              pairs, such as torchvision's. Every element is read once, in order; images may be PIL's;
            - an AnnData: rows are cells, columns genes.
        labels: The class of each row: an array; or the name of a column, of a DataFrame (taken out of its rows) or of
            an AnnData's `obs`.
        layer: Of an AnnData, which matrix to take: a name in its `layers`, "raw" for `raw.X`, None for `X`. Count
            models want raw counts.
        transform: What to do with each item of a data set before it is stored, such as a crop.

    Returns:
        `x` (shape (row, ...), floats for numbers with a fraction, else whole numbers); with labels also `y` (whole
        numbers, shape (row,)), and `label` (the classes' names, shape (class,)) where the labels were not numbers;
        `feature` (names of the columns) where they have names.

    Raises:
        DataError: The source is none of these, its items differ in shape, or labels do not fit the rows.
    """
    if _is_anndata(source):
        found, classes = _from_anndata(source, labels, layer)
    else:
        if layer is not None:
            raise DataError(f"rows_of: layer={layer!r} is for AnnData, found {type(source).__name__}. Leave it out.")
        found, classes = _from_other(source, labels, transform)
    if len(found["x"]) == 0:
        raise DataError("rows_of: the source has no rows.")
    return {**found, **({} if classes is None else _coded(classes, len(found["x"])))}


def _from_other(source: Any, labels: Any, transform: Callable[[Any], Any] | None) -> tuple[Arrays, Any]:
    if isinstance(source, (Mapping, str, bytes)):
        raise DataError(
            f"rows_of: found {type(source).__name__}, wanted rows: an array, a table, a data set or an AnnData. "
            "Name one of the values."
        )
    if transform is None and isinstance(source, tuple) and len(source) == 2 and all(map(_is_matrix, source)):
        return {"x": _numbers(source[0])}, source[1] if labels is None else labels
    if _is_frame(source):
        return _from_frame(source, labels)
    if _is_matrix(source) and transform is None:
        return {"x": _numbers(source)}, labels
    if hasattr(source, "__len__") and hasattr(source, "__getitem__"):
        return _from_items(source, labels, transform)
    raise DataError(
        f"rows_of: found {type(source).__name__}, wanted an array, a table, a data set with a length and elements, or "
        "an AnnData. Read a stream or an iterable data set into a list first."
    )


def _from_frame(frame: Any, labels: Any) -> tuple[Arrays, Any]:
    if isinstance(labels, str):
        if labels not in frame.columns:
            raise _no_column("the DataFrame", labels, frame.columns)
        frame, labels = frame.drop(columns=labels), frame[labels]
    return {"x": _numbers(frame), "feature": np.asarray(frame.columns).astype(str)}, labels


def _from_items(source: Any, labels: Any, transform: Callable[[Any], Any] | None) -> tuple[Arrays, Any]:
    """Read a data set element by element; a pair holds an item and its label."""
    items, classes = [], []
    for index in range(len(source)):
        element = source[index]
        parts: tuple[Any, ...] = element if isinstance(element, tuple) else (element,)
        if len(parts) not in (1, 2) or (len(parts) == 2 and _array(parts[1]).ndim):
            raise DataError(
                f"rows_of: element {index} is a tuple of {len(parts)}, wanted an item, or an item with one label. "
                "Choose the part with [data[i][0] for i in range(len(data))]."
            )
        items.append(_array(parts[0] if transform is None else transform(parts[0])))
        classes.append(_array(parts[1]).item() if len(parts) == 2 else None)
    shapes = {item.shape for item in items}
    if len(shapes) > 1:
        raise DataError(
            f"rows_of: the items differ in shape: {', '.join(map(str, sorted(shapes)[:5]))}. Give a transform that "
            "makes them alike, such as a crop."
        )
    if any(label is not None for label in classes) and labels is None:
        labels = np.asarray(classes)
    return {"x": _numbers(np.stack(items) if items else np.zeros((0, 1)))}, labels


def _from_anndata(source: Any, labels: Any, layer: str | None) -> tuple[Arrays, Any]:
    if layer == "raw":
        if source.raw is None:
            raise DataError("rows_of: layer='raw', but the AnnData has no raw. Name a layer, or leave it out for X.")
        matrix, genes = source.raw.X, source.raw.var_names
    elif layer is not None:
        if layer not in source.layers:
            raise _no_column("layers of the AnnData", layer, source.layers)
        matrix, genes = source.layers[layer], source.var_names
    else:
        matrix, genes = source.X, source.var_names
    if matrix is None:
        raise DataError(f"rows_of: the AnnData has no X. Name one of its layers: {', '.join(source.layers) or 'none'}.")
    if isinstance(labels, str):
        if labels not in source.obs.columns:
            raise _no_column("obs of the AnnData", labels, source.obs.columns)
        labels = source.obs[labels]
    return {"x": _numbers(matrix), "feature": np.asarray(genes).astype(str)}, labels


def _coded(labels: Any, num_rows: int) -> Arrays:
    """Labels as whole numbers; names become places in the sorted list of names."""
    values = np.asarray(_array(labels))
    if values.shape != (num_rows,):
        raise DataError(f"rows_of: labels have shape {values.shape}, the rows are {num_rows}; wanted one for each row.")
    if values.dtype.kind in "iub":
        return {"y": values.astype(np.int64)}
    if values.dtype.kind == "f" and np.isfinite(values).all() and (values == values.round()).all():
        return {"y": values.astype(np.int64)}
    if values.dtype.kind == "f":
        raise DataError("rows_of: some labels are NaN or have a fraction. Mark rows without a label by -1.")
    missing = np.array([value is None or value != value for value in values], dtype=bool)
    names, codes = np.unique(values[~missing].astype(str), return_inverse=True)
    y = np.full(num_rows, -1, dtype=np.int64)
    y[~missing] = codes
    return {"y": y, "label": names}


def _numbers(values: Any) -> np.ndarray:
    found = _array(values)
    if found.dtype.kind not in "iubf":
        raise DataError(f"rows_of: the rows have dtype {found.dtype}, wanted numbers. Code names as whole numbers.")
    if found.ndim == 0:
        raise DataError("rows_of: found a single number, wanted rows on the first axis.")
    return found.astype(float) if found.dtype.kind == "f" else found.astype(np.int64)


def _array(values: Any) -> np.ndarray:
    """A new or shared NumPy array; sparse matrices are written out, tensors leave their device."""
    if hasattr(values, "toarray"):
        values = values.toarray()
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    return np.asarray(values)


def _is_matrix(value: Any) -> bool:
    return hasattr(value, "toarray") or (hasattr(value, "__array__") and hasattr(value, "shape"))


def _is_frame(value: Any) -> bool:
    return hasattr(value, "columns") and hasattr(value, "drop")


def _is_anndata(value: Any) -> bool:
    return all(hasattr(value, name) for name in ("X", "obs", "var_names", "layers"))


def _no_column(where: str, name: str, columns: Any) -> DataError:
    return DataError(f"rows_of: {name!r} is not among {where}: {', '.join(map(str, columns)) or 'none'}.")
