"""extract: both engines give GAP(backbone(x)), in the table's order, each image once, whatever goes wrong."""

from __future__ import annotations

import logging
import shutil

import keras
import numpy as np
import pytest
from worker_features import DIM, PREPROCESSING, small_backbone

from keras_transfer import litert
from keras_transfer.backbones import load_backbone
from keras_transfer.data import batches, load_data
from keras_transfer.data.threads import default_threads
from keras_transfer.errors import DataError, ExportError, UsageError
from keras_transfer.features import extract
from keras_transfer.features.cache import clear
from keras_transfer.inference import engines, litert_runner
from keras_transfer.preprocessing import Preprocessing


def close(values: np.ndarray, expected: np.ndarray) -> bool:
    """Within the invariant's 1e-4 of the scale."""
    return values.shape == expected.shape and np.abs(values - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["keras", "litert"])
def test_values_are_the_pooled_backbone(table, backbone, expected, engine):
    result = extract(table, backbone, preprocessing=PREPROCESSING, engine=engine, batch_size=7)
    assert result.engine == engine and (result.computed, result.cached) == (40, 0)
    assert result.values.dtype == np.float32 and close(result.values, expected)


@pytest.mark.nightly
@pytest.mark.parametrize("engine", ["keras", pytest.param("litert", marks=pytest.mark.nightly)])
def test_values_are_the_pooled_backbone_lite0(table, engine):
    backbone, preprocessing = load_backbone("efficientnet_lite0", image_size=96), Preprocessing((96, 96))
    rows = np.arange(0, 40, 4)
    pixels = np.concatenate(list(batches(table, preprocessing, indices=rows))).astype(np.float32)
    expected = np.asarray(backbone(pixels, training=False)).mean(axis=(1, 2))
    result = extract(table, backbone, preprocessing=preprocessing, engine=engine, indices=rows)
    assert result.engine == engine and close(result.values, expected)


def test_a_backbone_too_large_for_many_copies_runs_in_one_interpreter(table, backbone, expected, monkeypatch):
    monkeypatch.setattr(litert_runner, "_COPIES_BYTES", 1)
    made = []
    honest = litert_runner.LiteRTModel
    monkeypatch.setattr(
        litert_runner, "LiteRTModel", lambda *a, **options: made.append(options) or honest(*a, **options)
    )
    result = extract(table, backbone, preprocessing=PREPROCESSING, engine="litert")
    assert result.engine == "litert" and close(result.values, expected)
    assert made == [{"threads": default_threads()}]


@pytest.mark.slow
def test_rows_come_in_the_order_asked_for(table, backbone, expected):
    rows = [7, 3, 3, 39, 0]
    result = extract(table, backbone, preprocessing=PREPROCESSING, engine="keras", indices=rows)
    assert close(result.values, expected[rows])
    assert result.computed == 4, "row 3 is computed once"
    again = extract(table, backbone, preprocessing=PREPROCESSING, engine="keras")
    assert (again.computed, again.cached) == (36, 4) and close(again.values, expected)


def test_no_rows_are_no_work(table, backbone):
    result = extract(table, backbone, preprocessing=PREPROCESSING, indices=[])
    assert result.values.shape == (0, DIM) and result.computed == 0


@pytest.mark.parametrize("rows", [[40], [-1], [0.5], [True, False], [[1]]])
def test_impossible_rows_are_refused(table, backbone, rows):
    with pytest.raises(UsageError, match="0 to 39"):
        extract(table, backbone, preprocessing=PREPROCESSING, indices=rows)


def test_equal_images_are_computed_once(photo_folder, backbone, tmp_path):
    shutil.copytree(photo_folder, tmp_path / "data")
    for i in range(5):
        shutil.copy(photo_folder / "china" / "000.png", tmp_path / "data" / "china" / f"copy{i}.png")
    table = load_data(tmp_path / "data")
    assert len(table) == 45
    result = extract(table, backbone, preprocessing=PREPROCESSING, engine="keras", cache=False)
    assert result.computed == 40
    copies = [i for i in range(45) if table.sha256.count(table.sha256[i]) > 1]
    assert len(copies) == 6 and np.ptp(result.values[copies], axis=0).max() == 0
    pixels = np.concatenate(list(batches(table, PREPROCESSING))).astype(np.float32)
    assert close(result.values, np.asarray(backbone(pixels, training=False)).mean(axis=(1, 2)))


def test_a_backbone_that_already_pools_is_taken_as_it_is(table, backbone, expected):
    pooled = keras.Model(backbone.inputs, keras.layers.GlobalAveragePooling2D()(backbone.output))
    result = extract(table, pooled, preprocessing=PREPROCESSING, engine="keras")
    assert close(result.values, expected)
    shared = extract(table, backbone, preprocessing=PREPROCESSING, engine="keras")
    assert shared.computed == 0, "it is the same network as the backbone with pooling added"


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["keras", "litert"])
def test_a_backbone_of_any_size_is_run_at_the_preprocessing_size(table, expected, engine):
    free = small_backbone(size=(None, None))
    result = extract(table, free, preprocessing=PREPROCESSING, engine=engine)
    assert result.engine == engine and close(result.values, expected)


def test_a_wrong_size_is_refused(table, backbone):
    with pytest.raises(UsageError, match=r"\(48, 48, 3\).*\(32, 32, 3\)"):
        extract(table, backbone, preprocessing=Preprocessing((32, 32)))


def test_a_model_that_gives_no_features_is_refused(table, backbone):
    flat = keras.Model(backbone.inputs, keras.layers.Reshape((144, DIM))(backbone.output))
    with pytest.raises(UsageError, match="expected"):
        extract(table, flat, preprocessing=PREPROCESSING)
    two = keras.Model(backbone.inputs, [backbone.output, backbone.layers[2].output])
    with pytest.raises(UsageError, match="2 outputs"):
        extract(table, two, preprocessing=PREPROCESSING)


def test_an_unknown_engine_names_the_known_ones(table, backbone):
    with pytest.raises(UsageError, match="Did you mean litert"):
        extract(table, backbone, preprocessing=PREPROCESSING, engine="lite_rt")


@pytest.mark.slow
def test_litert_that_disagrees_is_not_believed(table, backbone, expected, monkeypatch, caplog):
    honest = litert.LiteRTModel.predict
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "keras_transfer"):
        patch.setattr(litert.LiteRTModel, "predict", lambda self, batch: honest(self, batch) * 1.01)
        result = extract(table, backbone, preprocessing=PREPROCESSING, engine="litert")
    assert result.engine == "keras" and close(result.values, expected)
    assert "differ from Keras's" in caplog.text
    caplog.clear()
    again = extract(table, backbone, preprocessing=PREPROCESSING, engine="litert")  # the check is remembered
    assert again.engine == "keras" and again.computed == 0
    assert "differ from Keras's" in caplog.text


@pytest.mark.slow
def test_litert_that_gives_nan_is_not_believed(table, backbone, expected, monkeypatch):
    monkeypatch.setattr(
        litert.LiteRTModel, "predict", lambda self, batch: np.full((len(batch), DIM), np.nan, np.float32)
    )
    result = extract(table, backbone, preprocessing=PREPROCESSING, engine="litert")
    assert result.engine == "keras" and close(result.values, expected)


def test_the_self_check_looks_at_the_users_images(table, backbone, monkeypatch):
    seen = []
    honest = engines.self_check
    monkeypatch.setattr(
        engines, "self_check", lambda e, m, pixels: seen.append(pixels) or honest(e, m, pixels)
    )
    extract(table, backbone, preprocessing=PREPROCESSING, engine="litert")
    wanted = np.concatenate(list(batches(table, PREPROCESSING, indices=[0, 1, 2, 3])))
    assert len(seen) == 1 and np.array_equal(seen[0], wanted)


def test_a_conversion_that_fails_leaves_keras(table, backbone, expected, monkeypatch, caplog):
    def fail(model):
        raise ExportError("no such operator")

    monkeypatch.setattr(engines, "convert", fail)
    result = extract(table, backbone, preprocessing=PREPROCESSING, engine="litert")
    assert result.engine == "keras" and close(result.values, expected)
    assert "no such operator" in caplog.text


@pytest.mark.slow
def test_conversion_happens_once(table, backbone, monkeypatch):
    count = []
    honest = engines.convert
    monkeypatch.setattr(engines, "convert", lambda model: count.append(1) or honest(model))
    for rows in ([0, 1], [2, 3]):
        result = extract(table, backbone, preprocessing=PREPROCESSING, engine="litert", indices=rows)
        assert (result.engine, result.computed) == ("litert", 2)
    assert len(count) == 1


class Doubling(keras.layers.Layer):
    def call(self, x):
        return x * 2


@pytest.mark.slow
def test_custom_code_is_computed_every_time(table, backbone, expected, caplog):
    custom = keras.Model(backbone.inputs, Doubling()(backbone.output))
    for _ in range(2):
        result = extract(table, custom, preprocessing=PREPROCESSING, engine="keras")
        assert result.computed == 40 and close(result.values, 2 * expected)
    assert "no lasting identity" in caplog.text


def test_an_image_changed_since_it_was_hashed_is_an_error(photo_folder, backbone, tmp_path):
    shutil.copytree(photo_folder, tmp_path / "data")
    table = load_data(tmp_path / "data")
    shutil.copy(table.images.path(1), table.images.path(30))
    with pytest.raises(DataError, match="changed"):
        extract(table, backbone, preprocessing=PREPROCESSING, engine="keras")


@pytest.mark.slow
def test_choice_of_engine(monkeypatch):
    lite0 = load_backbone("efficientnet_lite0", weights="none", image_size=224)
    assert engines.macs(lite0) == pytest.approx(0.385e9, rel=0.02)

    for missing, edge in (("not installed", "litert"), ("", "openvino")):
        monkeypatch.setattr(engines, "openvino_is_missing", lambda missing=missing: missing)
        assert engines.choose(lite0, 40) == "keras", "a conversion costs more than a few dozen images"
        assert engines.choose(lite0, 5000) == edge
    monkeypatch.setattr(engines.tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    assert engines.choose(lite0, 5000) == "keras"


@pytest.mark.slow
def test_auto_takes_keras_for_a_few_images_whatever_the_cache_holds(table, backbone):
    first = extract(table, backbone, preprocessing=PREPROCESSING)
    assert first.engine == "keras"
    extract(table, backbone, preprocessing=PREPROCESSING, engine="litert")
    clear()
    extract(table, backbone, preprocessing=PREPROCESSING, engine="litert")
    again = extract(table, backbone, preprocessing=PREPROCESSING)
    assert again.engine == "keras"
    np.testing.assert_array_equal(again.values, first.values)
