"""Features of any layer, pooled in any way, as plain Keras and NumPy give them, and never taken for one another."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from worker_features import PREPROCESSING

from keras_transfer.backbone_specs import get_spec
from keras_transfer.backbones import load_backbone
from keras_transfer.data import batches
from keras_transfer.errors import DataError, UsageError
from keras_transfer.features import extract, model_hash
from keras_transfer.features.pooling import feature_model
from keras_transfer.settings import POOLINGS
from keras_transfer.workflow.feature_files import as_dtype
from keras_transfer.workflow.features import fit_pca

BY_HAND = {
    "avg": lambda maps: maps.mean(axis=(1, 2)),
    "max": lambda maps: maps.max(axis=(1, 2)),
    "gem": lambda maps: (np.maximum(maps, 1e-6) ** 3).mean(axis=(1, 2)) ** (1 / 3),
    "flatten": lambda maps: maps.reshape(len(maps), -1),
}


def activations_of(backbone, name, pixels) -> np.ndarray:
    return np.asarray(keras.Model(backbone.input, backbone.get_layer(name).output)(pixels, training=False))


@pytest.mark.slow
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("inner", [False, True])
def test_every_pooling_of_every_layer_is_what_numpy_says(table, backbone, pooling, inner):
    layer = [each.name for each in backbone.layers if len(each.output.shape) == 4][-1 - 2 * inner]
    pixels = np.concatenate(list(batches(table, PREPROCESSING))).astype(np.float32)
    expected = BY_HAND[pooling](activations_of(backbone, layer, pixels))
    found = extract(
        table,
        feature_model(backbone, layer=layer, pooling=pooling),
        preprocessing=PREPROCESSING,
        engine="keras",
    )
    assert found.computed == 40
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found.values, expected, atol=1e-4 * scale)


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["max", "gem", "flatten"])
def test_the_edge_runtime_gives_the_same(table, backbone, pooling):
    model = feature_model(backbone, pooling=pooling)
    ours, theirs = (
        extract(table, model, preprocessing=PREPROCESSING, engine=engine) for engine in ("keras", "litert")
    )
    assert theirs.engine == "litert"
    np.testing.assert_allclose(theirs.values, ours.values, atol=1e-4 * np.abs(ours.values).max())


@pytest.mark.slow
def test_the_cache_keeps_them_apart(table, backbone):
    """Another layer, pooling or power is another model: nothing is found under its key."""
    middle = [each.name for each in backbone.layers if len(each.output.shape) == 4][-3]
    models = [feature_model(backbone, pooling=pooling) for pooling in POOLINGS]
    models.append(feature_model(backbone, layer=middle))
    assert len({model_hash(model) for model in models}) == len(models)
    rows = range(6)
    for model in models:
        first = extract(table, model, preprocessing=PREPROCESSING, engine="keras", indices=rows)
        again = extract(table, model, preprocessing=PREPROCESSING, engine="keras", indices=rows)
        assert (first.computed, again.computed, again.cached) == (6, 0, 6)
        np.testing.assert_array_equal(first.values, again.values)


def test_the_power_of_gem_is_part_of_the_key(backbone, monkeypatch):
    before = model_hash(feature_model(backbone, pooling="gem"))
    monkeypatch.setattr("keras_transfer.features.pooling.GEM_POWER", 4.0)
    assert model_hash(feature_model(backbone, pooling="gem")) != before


def test_average_of_the_last_map_is_what_was_cached_before(table, backbone):
    extract(table, backbone, preprocessing=PREPROCESSING, engine="keras")
    found = extract(table, feature_model(backbone), preprocessing=PREPROCESSING, engine="keras")
    assert (found.computed, found.cached) == (0, 40)


def test_levels_of_the_pyramid_and_names_that_are_not_there():
    backbone = load_backbone("tiny", image_size=64)
    pyramid = get_spec("tiny").pyramid
    assert feature_model(backbone, layer="P4", pyramid=pyramid).output_shape == (None, 32)
    flat = feature_model(backbone, layer="p2", pooling="flatten", pyramid=pyramid)
    assert flat.output_shape == (None, 16 * 16 * 16)
    with pytest.raises(UsageError, match=r"Did you mean block5b_add.*P2, P3, P4, P5.*describe"):
        feature_model(backbone, layer="block5b_ad", pyramid=pyramid)
    with pytest.raises(UsageError, match="P7"):
        feature_model(backbone, layer="P7", pyramid=pyramid)
    with pytest.raises(UsageError, match="Known: avg, flatten, gem, max"):
        feature_model(backbone, pooling="median")


def test_principal_components_are_found_in_the_training_images_alone():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(30, 8)).astype(np.float32) @ rng.normal(size=(8, 8)).astype(np.float32)
    values[20:] += 100  # the others must not count
    train = np.arange(20)
    projection = fit_pca(values, train, 3)
    centred = values[train] - values[train].mean(axis=0)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(projection.components_ @ directions[:3].T), np.eye(3), atol=1e-4)
    np.testing.assert_allclose(projection.explained_variance_, sizes[:3] ** 2 / 19, rtol=1e-4)
    with pytest.raises(UsageError, match="at most 8"):
        fit_pca(values, train, 9)
    with pytest.raises(DataError, match="training split is empty"):
        fit_pca(values, np.arange(0), 2)


def test_half_precision_that_would_overflow_is_refused():
    assert as_dtype(np.array([[60000.0]], np.float32), "float16").dtype == np.float16
    with pytest.raises(DataError, match="65504"):
        as_dtype(np.array([[70000.0]], np.float32), "float16")
