"""Search by similarity: which images look most like this one, and which are nearly the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from keras_transfer.backbone_specs import pyramid_of
from keras_transfer.data.kept import keep_pixels
from keras_transfer.data.table import ImageTable
from keras_transfer.data.unlabelled import unlabelled_table
from keras_transfer.errors import UsageError
from keras_transfer.features import extract
from keras_transfer.features.pooling import feature_model
from keras_transfer.inference import engines
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.settings import EngineSettings, FeatureSettings, ModelSettings
from keras_transfer.workflow.predict import find_images
from keras_transfer.workflow.train import backbone_for, expected_preprocessing, preprocessing_for

DUPLICATE = 0.97
"""Cosine similarity from which two images are reported as near-duplicates."""


@dataclass(frozen=True, eq=False)
class Similar:
    """What :func:`find_similar` gives.

    Attributes:
        queries: for each query ``path`` and ``nearest``: the images of the folder, ``path`` and ``similarity`` (cosine,
            1: the same direction), the nearest first.
        duplicates: pairs of images of the folder, ``first``, ``second``, ``similarity`` and ``identical`` (the same
            file content), the most alike first.
        images: how many images were searched.
        skipped: unreadable files, ``path`` and ``reason``.
        computed: how many images were run through the network; the others were in the cache.
        preprocessing: how the network sees them.
    """

    queries: list[dict[str, Any]]
    duplicates: list[dict[str, Any]]
    images: int
    skipped: list[dict[str, str]]
    computed: int
    preprocessing: Preprocessing

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "images": self.images,
            "computed": self.computed,
            "queries": self.queries,
            "duplicates": self.duplicates,
            "skipped": self.skipped,
        }


def find_similar(
    folder: str | Path,
    queries: Sequence[str | Path],
    *,
    top: int = 8,
    duplicates: float = DUPLICATE,
    model: ModelSettings | None = None,
    features: FeatureSettings | None = None,
    engine: str = "auto",
    engine_precision: str = "float32",
) -> Similar:
    """Compare images by the cosine similarity of their features.

    Args:
        folder: the images that are searched, in any sub-folders.
        queries: images to look for; none: only near-duplicates are listed.
        top: how many images to tell for each query; the query's own file is left out.
        duplicates: similarity from which two images of the folder are near-duplicates.
        model: the network, and how images are brought to its size.
        features: its layer and pooling.
        engine, engine_precision: what computes, see ``features.extract``.

    Raises:
        UsageError: nothing there, or numbers out of range.
        DataError: images that cannot be used.
    """
    if top < 1 or not 0 < duplicates <= 1:
        raise UsageError(
            f"top={top} and duplicates={duplicates} were given; at least 1, and a similarity above 0, at most 1, are "
            "expected."
        )
    engines.require(EngineSettings(engine, engine_precision))
    model, features = model or ModelSettings(), features or FeatureSettings()
    paths = find_images([folder])
    asked = find_images(queries) if queries else []
    with keep_pixels(expected_preprocessing(model)):
        table = unlabelled_table(paths, str(folder))
        # A query that cannot be read is an error, not something to pass over.
        query_table = unlabelled_table(asked, "the queries", max_skipped=0.0) if asked else None
    backbone = backbone_for(model)
    levels = pyramid_of(model.backbone)
    network = feature_model(backbone, layer=features.layer, pooling=features.pooling, pyramid=levels)
    preprocessing = preprocessing_for(model, backbone.input_shape[1:3])
    features_of = partial(
        extract,
        backbone=network,
        preprocessing=preprocessing,
        engine=engine,
        engine_precision=engine_precision,
    )
    found = features_of(table)
    values = normalize(found.values)
    answers, computed = [], found.computed
    if query_table is not None:
        asked_for = features_of(query_table)
        computed += asked_for.computed
        answers = _nearest(table, values, query_table, normalize(asked_for.values), top)
    return Similar(
        queries=answers,
        duplicates=_duplicates(table, values, duplicates),
        images=len(table),
        skipped=[{"path": one.path, "reason": one.reason} for one in table.skipped],
        computed=computed,
        preprocessing=preprocessing,
    )


def _nearest(
    table: ImageTable, values: np.ndarray, queries: ImageTable, asked: np.ndarray, top: int
) -> list[dict[str, Any]]:
    most = min(top + 1, len(table))  # one more, for the query itself
    index = NearestNeighbors(n_neighbors=most, metric="cosine", algorithm="brute").fit(values)
    distances, places = index.kneighbors(asked)
    answers = []
    for row in range(len(queries)):
        own = queries.images.path(row).resolve()  # type: ignore[union-attr]
        nearest = [
            {"path": table.images.describe(int(place)), "similarity": float(1 - distance)}
            for distance, place in zip(distances[row], places[row], strict=True)
            if table.images.path(int(place)).resolve() != own  # type: ignore[union-attr]
        ]
        answers.append({"path": queries.images.describe(row), "nearest": nearest[:top]})
    return answers


def _duplicates(table: ImageTable, values: np.ndarray, least: float) -> list[dict[str, Any]]:
    index = NearestNeighbors(radius=1 - least + 1e-6, metric="cosine", algorithm="brute").fit(values)
    distances, places = index.radius_neighbors(values)
    pairs = [
        {
            "first": table.images.describe(row),
            "second": table.images.describe(int(other)),
            "similarity": float(1 - distance),
            "identical": table.sha256[row] == table.sha256[int(other)],
        }
        for row in range(len(table))
        for distance, other in zip(distances[row], places[row], strict=True)
        if other > row
    ]
    return sorted(pairs, key=lambda pair: (-pair["similarity"], pair["first"], pair["second"]))
