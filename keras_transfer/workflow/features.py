"""Saving the features of a backbone to a file: the input of whatever comes next (an SVM, a search index, a plot)."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import PCA

from keras_transfer import options as option_tools
from keras_transfer.backbone_specs import pyramid_of
from keras_transfer.data import ImageTable, load_data
from keras_transfer.errors import DataError, UsageError
from keras_transfer.features import Features, extract
from keras_transfer.features.pooling import feature_model
from keras_transfer.inference import engines
from keras_transfer.paths import atomic_write
from keras_transfer.settings import DataSettings, EngineSettings, FeatureSettings, ModelSettings
from keras_transfer.workflow.feature_files import (
    as_dtype,
    check_suffix,
    files_of,
    projection_of,
    write_features,
)
from keras_transfer.workflow.train import backbone_for, expected_preprocessing, preprocessing_for


def save_features(
    source: Any,
    output: str | Path,
    *,
    model: ModelSettings | None = None,
    data: DataSettings | None = None,
    features: FeatureSettings | None = None,
    engine: str = "auto",
    engine_precision: str = "float32",
    seed: int = 0,
    overwrite: bool = False,
) -> tuple[ImageTable, Features]:
    """Compute (or take from the cache) one vector for every image and write them to one file.

    Args:
        source: what ``load_data`` takes.
        output: a ``.npz``, ``.parquet`` or ``.npy`` file; see
            :func:`keras_transfer.workflow.feature_files.write_features`. With a PCA, ``NAME.pca.npz`` is written beside
            it: ``mean`` (D,), ``components`` (n, D) and ``explained_variance_ratio`` (n,), so that
            ``(x - mean) @ components.T`` are the features of another image.
        model: backbone and preprocessing.
        data: how the data are read.
        features: which layer, which pooling, how many principal components, which number format.
        engine, engine_precision: what computes, see ``features.extract``.
        seed: of the split.
        overwrite: replace existing files; never the one the data are read from.

    Returns:
        The table, and the features as they were written.

    Raises:
        UsageError: another suffix, an existing file, an unknown layer, more components than images or features.
        DataError: the data cannot be used, or float16 cannot hold the features.
    """
    path, model = Path(output), model or ModelSettings()
    data, features = data or DataSettings(min_per_class=1), features or FeatureSettings()
    option_tools.check(features)
    engines.require(EngineSettings(engine, engine_precision))
    check_suffix(path)
    _check_room(files_of(path, pca=features.pca is not None), (source, data.split_from), overwrite)
    table = load_data(source, seed=seed, preprocessing=expected_preprocessing(model), **vars(data))
    backbone = backbone_for(model)
    extractor = feature_model(
        backbone,
        layer=features.layer,
        pooling=features.pooling,
        pyramid=pyramid_of(model.backbone),
    )
    preprocessing = preprocessing_for(model, backbone.input_shape[1:3])
    found = extract(
        table,
        extractor,
        preprocessing=preprocessing,
        engine=engine,
        engine_precision=engine_precision,
    )
    values = found.values
    if features.pca is not None:
        projection = fit_pca(values, table.indices("train"), features.pca)
        values = projection.transform(values).astype(np.float32)
    values = as_dtype(values, features.dtype)
    if features.pca is not None:
        atomic_write(projection_of(path), _projection(projection))
    write_features(table, values, path)
    return table, replace(found, values=values)


def fit_pca(values: np.ndarray, train: np.ndarray, components: int) -> PCA:
    """The principal components of the training images' features (all others are only projected onto them).

    Raises ``UsageError`` when there are fewer images or features than components, ``DataError`` without images.
    """
    if not len(train):
        raise DataError(
            "The principal components are found in the training images; the training split is empty."
        )
    most = min(len(train), values.shape[1])
    if components > most:
        raise UsageError(
            f"--pca {components}: {len(train)} training images with {values.shape[1]} features have at most {most} "
            "components."
        )
    return PCA(components, svd_solver="full").fit(values[train])


def _check_room(files: Sequence[Path], read: Sequence[Any], overwrite: bool) -> None:
    """``UsageError`` where a file would be replaced that must not be: the data's own, or any unless asked for."""
    sources = {Path(each).resolve() for each in read if isinstance(each, (str, os.PathLike))}
    for file in files:
        if file.resolve() in sources:
            raise UsageError(
                f"{file} would be written, but the data are read from it. Choose another --output."
            )
        if file.exists() and not overwrite:
            raise UsageError(f"{file} exists. Choose another --output, or pass --overwrite.")


def _projection(projection: PCA) -> bytes:
    buffer = io.BytesIO()
    np.savez(
        buffer,
        mean=projection.mean_,
        components=projection.components_,
        explained_variance_ratio=projection.explained_variance_ratio_,
    )
    return buffer.getvalue()
