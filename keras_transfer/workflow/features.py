"""Saving the features of a backbone to a file: the input of whatever comes next (an SVM, a search index, a plot)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer.backbones import load_backbone
from keras_transfer.data import ImageTable, load_data
from keras_transfer.errors import UsageError
from keras_transfer.features import Features, extract
from keras_transfer.paths import atomic_write
from keras_transfer.settings import DataSettings, ModelSettings
from keras_transfer.workflow.train import preprocessing_for

SUFFIXES = (".npz", ".parquet")


def save_features(
    source: Any,
    output: str | Path,
    *,
    model: ModelSettings | None = None,
    data: DataSettings | None = None,
    engine: str = "auto",
    seed: int = 0,
    overwrite: bool = False,
) -> tuple[ImageTable, Features]:
    """Compute (or take from the cache) the pooled features of every image and write them to one file.

    Args:
        source: what ``load_data`` takes.
        output: a ``.npz`` file (arrays ``paths``, ``labels``, ``splits``, ``sha256``, ``classes`` and
            ``features``, float32 ``(N, D)``) or a ``.parquet`` file (columns ``path``, ``label``, ``split``,
            ``sha256``, ``features``).
        model: backbone and preprocessing.
        data: how the data are read.
        engine: what computes.
        seed: of the split.
        overwrite: replace an existing file.

    Raises:
        UsageError: another suffix, or the file exists.
    """
    path, model, data = Path(output), model or ModelSettings(), data or DataSettings(min_per_class=1)
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"{path}: features are written as .npz or .parquet; give the file one of these suffixes."
        )
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists. Choose another --output, or pass --overwrite.")
    table = load_data(source, seed=seed, **vars(data))
    backbone = load_backbone(model.backbone, weights=model.weights, image_size=model.image_size)
    features = extract(
        table, backbone, preprocessing=preprocessing_for(model, backbone.input_shape[1:3]), engine=engine
    )
    content = _npz(table, features) if path.suffix.lower() == ".npz" else _parquet(table, features)
    atomic_write(path, content)
    return table, features


def _npz(table: ImageTable, features: Features) -> bytes:
    buffer = io.BytesIO()
    np.savez(
        buffer,
        paths=np.array([table.images.describe(i) for i in range(len(table))]),
        labels=table.labels,
        splits=table.splits,
        sha256=np.array(table.sha256),
        classes=np.array(table.classes, dtype=str),
        features=features.values,
    )
    return buffer.getvalue()


def _parquet(table: ImageTable, features: Features) -> bytes:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UsageError(
            "Parquet needs pyarrow: pip install 'keras-transfer[parquet]', or write .npz."
        ) from None
    columns = {
        "path": [table.images.describe(i) for i in range(len(table))],
        "label": [table.label_text(i) for i in range(len(table))],
        "split": table.splits.tolist(),
        "sha256": list(table.sha256),
        "features": pyarrow.FixedSizeListArray.from_arrays(
            pyarrow.array(np.ascontiguousarray(features.values).ravel()), features.values.shape[1]
        ),
    }
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue().to_pybytes()
