"""Features in a file: what an SVM, a search index or another program reads."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer.data import ImageTable
from keras_transfer.errors import DataError, UsageError
from keras_transfer.paths import atomic_open, atomic_write

SUFFIXES = (".npz", ".parquet", ".npy")


def write_features(table: ImageTable, values: np.ndarray, path: Path) -> list[Path]:
    """Write features and what belongs to them.

    Args:
        table: the images, a row of ``values`` each.
        values: ``(N, D)``, float32 or float16.
        path: ``.npz`` (arrays ``paths``, ``labels``, ``splits``, ``sha256``, ``classes``, ``features``), ``.parquet``
            (columns ``path``, ``label``, ``split``, ``sha256``, ``features``) or ``.npy``: the array alone, which
            ``numpy.load(path, mmap_mode="r")`` reads without loading it, with the images in a ``.csv`` beside it.

    Returns:
        The files.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        table.write_csv(_images_of(path))
        with atomic_open(path) as file:  # last: where it is, its images are
            np.save(file, values)
        return [path, _images_of(path)]
    atomic_write(path, _npz(table, values) if suffix == ".npz" else _parquet(table, values))
    return [path]


def files_of(path: Path, *, pca: bool) -> list[Path]:
    """Every file that belongs to the features in ``path``: with ``pca`` the projection's too."""
    files = [path, _images_of(path)] if path.suffix.lower() == ".npy" else [path]
    return [*files, projection_of(path)] if pca else files


def projection_of(path: Path) -> Path:
    """Where the principal components of the features in ``path`` are."""
    return path.with_name(f"{path.stem}.pca.npz")


def _images_of(path: Path) -> Path:
    return path.with_suffix(".csv")


def as_dtype(values: np.ndarray, dtype: str) -> np.ndarray:
    """float32 features as ``float32`` or ``float16``. ``DataError`` where half precision cannot hold them."""
    if dtype == "float32":
        return values
    largest = float(np.abs(values).max(initial=0.0))
    if largest > float(np.finfo(np.float16).max):
        raise DataError(
            f"The largest feature is {largest:.3g}; float16 ends at 65504. Write them as --dtype float32."
        )
    return values.astype(np.float16)


def check_suffix(path: Path) -> None:
    """``UsageError`` for a file that is none of :data:`SUFFIXES`, or for Parquet without its package."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"{path}: features are written as .npz, .parquet or .npy; give the file one of these suffixes."
        )
    if path.suffix.lower() == ".parquet":
        _pyarrow()


def _npz(table: ImageTable, values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(
        buffer,
        paths=np.array([table.images.describe(i) for i in range(len(table))]),
        labels=table.labels,
        splits=table.splits,
        sha256=np.array(table.sha256),
        classes=np.array(table.classes, dtype=str),
        features=values,
    )
    return buffer.getvalue()


def _parquet(table: ImageTable, values: np.ndarray) -> bytes:
    pyarrow = _pyarrow()
    columns = {
        "path": [table.images.describe(i) for i in range(len(table))],
        "label": [table.label_text(i) for i in range(len(table))],
        "split": table.splits.tolist(),
        "sha256": list(table.sha256),
        "features": pyarrow.FixedSizeListArray.from_arrays(
            pyarrow.array(np.ascontiguousarray(values).ravel()), values.shape[1]
        ),
    }
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue().to_pybytes()


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UsageError(
            "Parquet needs pyarrow: pip install 'keras-transfer[parquet]', or write .npz."
        ) from None
    return pyarrow
