"""The engine openvino: the same features, its precisions, what it needs, and what computes where it is not believed."""

from __future__ import annotations

import logging
import sys
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras_transfer_tests import SMALL
from worker_features import PREPROCESSING

from keras_transfer import engine_choice
from keras_transfer.backbones import load_backbone
from keras_transfer.data import batches
from keras_transfer.engine_choice import require_engine
from keras_transfer.errors import UsageError
from keras_transfer.features import extract
from keras_transfer.features.activations import activations
from keras_transfer.inference import engines
from keras_transfer.inference.openvino_runner import OpenVINORunner
from keras_transfer.inference.self_check import TOLERANCES, self_check
from keras_transfer.litert import convert
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.settings import EngineSettings, TrainSettings
from keras_transfer.testing.command import call
from keras_transfer.workflow.compare import compare
from keras_transfer.workflow.features import save_features
from keras_transfer.workflow.plan import plan_training
from keras_transfer.workflow.similar import find_similar
from keras_transfer.workflow.train import train

BFLOAT16 = EngineSettings("openvino", "bfloat16")


@pytest.fixture
def openvino():
    return pytest.importorskip("openvino", reason="the extra 'openvino' brings the engine")


@pytest.fixture
def nothing_is_refused(monkeypatch):
    """This processor computes in float32 what it is asked in bfloat16, if it has none."""
    monkeypatch.setattr(engines, "require_bfloat16", lambda: None)
    monkeypatch.setattr("keras_transfer.inference.openvino_runner.require_bfloat16", lambda: None)


def close(values: np.ndarray, expected: np.ndarray, share: float = 1e-4) -> bool:
    """Within a share of the scale."""
    return (
        values.shape == expected.shape and np.abs(values - expected).max() <= share * np.abs(expected).max()
    )


def of(table, backbone, engine="openvino", **options):
    return extract(table, backbone, preprocessing=PREPROCESSING, engine=engine, **options)


@pytest.mark.slow
def test_features_are_keras_s_in_order_and_each_engine_and_precision_has_its_own(
    openvino, nothing_is_refused, table, backbone, expected
):
    rows = [7, 3, 3, *range(39, 7, -1), 0]
    found = of(table, backbone, indices=rows)
    assert (found.engine, found.engine_precision) == ("openvino", "float32")
    assert (found.computed, found.cached) == (35, 0) and close(found.values, expected[rows])
    assert of(table, backbone, indices=rows).computed == 0
    half = of(table, backbone, engine_precision="bfloat16", indices=rows)
    assert (half.engine, half.engine_precision, half.computed) == ("openvino", "bfloat16", 35)
    assert close(half.values, expected[rows], share=0.2)
    for engine in ("litert", "keras"):
        assert of(table, backbone, engine, indices=rows).computed == 35


@pytest.mark.slow
def test_activations_keep_their_layout(openvino, table, backbone):
    kept = activations(table, backbone, preprocessing=PREPROCESSING, engine="openvino")
    pixels = np.concatenate(list(batches(table, PREPROCESSING))).astype(np.float32)
    values = kept.take(np.arange(40)).astype(np.float32)
    assert kept.engine == "openvino" and close(values, np.asarray(backbone(pixels, training=False)), 1e-3)


@pytest.mark.nightly
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_lite0_is_within_what_its_precision_allows(openvino, table, precision):
    if precision == "bfloat16" and "BF16" not in openvino.Core().get_property(
        "CPU", "OPTIMIZATION_CAPABILITIES"
    ):
        pytest.skip("this processor does not compute in bfloat16")
    preprocessing = Preprocessing((96, 96))
    pooled = engines.pooled_model(load_backbone("efficientnet_lite0", image_size=96), (96, 96))
    pixels = np.concatenate(list(batches(table, preprocessing, indices=range(0, 40, 4))))
    runner = OpenVINORunner(convert(pooled), precision)
    check = self_check(runner, pooled, pixels)
    assert check.passed(TOLERANCES[precision])
    exact = check.difference <= 1e-4 * check.scale
    assert exact == (precision == "float32"), "bfloat16 is asked for and computed, and never unasked"
    runner.close()


@pytest.mark.parametrize(
    ("installed", "message"),
    [
        (None, r"not installed: pip install 'keras-transfer\[openvino\]'"),
        ("2024.6.0", r"2024.6.0 is too old; 2026.0 or newer .*pip install -U 'openvino>=2026.0'"),
    ],
)
def test_a_package_that_is_missing_or_too_old_is_told_with_the_command(
    table, backbone, monkeypatch, installed, message
):
    def version(_):
        if installed is None:
            raise PackageNotFoundError
        return installed

    monkeypatch.setattr(engine_choice, "version", version)
    with pytest.raises(UsageError, match=message):
        of(table, backbone)
    with pytest.raises(UsageError, match=message):
        activations(table, backbone, preprocessing=PREPROCESSING, engine="openvino")
    require_engine(EngineSettings("auto"))


@pytest.mark.parametrize("engine", ["auto", "litert", "keras"])
def test_only_openvino_computes_in_bfloat16(table, backbone, engine):
    with pytest.raises(UsageError, match=f"--engine {engine}; only openvino"):
        of(table, backbone, engine, engine_precision="bfloat16")
    with pytest.raises(UsageError, match="Did you mean bfloat16"):
        of(table, backbone, engine, engine_precision="bfloat")


def test_a_processor_without_bfloat16_is_refused_by_its_name(table, backbone, monkeypatch):
    facts = {"OPTIMIZATION_CAPABILITIES": ["FP32", "INT8"], "FULL_DEVICE_NAME": "An Old Processor"}
    core = SimpleNamespace(get_property=lambda device, name: facts[name])
    monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(Core=lambda: core))
    monkeypatch.setattr(engine_choice, "version", lambda _: "2026.4.1")
    with pytest.raises(UsageError, match=r"An Old Processor.*does not compute in bfloat16"):
        of(table, backbone, engine_precision="bfloat16")
    facts["OPTIMIZATION_CAPABILITIES"] = ["FP32", "BF16"]
    engines.require(BFLOAT16)


@pytest.mark.parametrize("factor", [1.01, np.nan])
def test_answers_that_are_not_keras_s_are_not_believed(
    openvino, table, backbone, expected, monkeypatch, caplog, factor
):
    honest = OpenVINORunner.step_of
    monkeypatch.setattr(OpenVINORunner, "step_of", lambda self, chunk: honest(self, chunk) * factor)
    with caplog.at_level(logging.WARNING, "keras_transfer"):
        found = of(table, backbone)
    assert found.engine == "litert" and close(found.values, expected)
    assert "OpenVINO does not run small" in caplog.text and "LiteRT computes instead" in caplog.text


def test_a_package_that_cannot_be_imported_leaves_litert(table, backbone, expected, monkeypatch, caplog):
    monkeypatch.setattr(engine_choice, "version", lambda _: "2026.4.1")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with caplog.at_level(logging.WARNING, "keras_transfer"):
        found = of(table, backbone)
    assert found.engine == "litert" and close(found.values, expected)
    assert "openvino cannot be imported" in caplog.text


@pytest.mark.parametrize(
    ("changed", "float32", "bfloat16"),
    [
        (lambda values, noise: values, True, True),
        (lambda values, noise: values + 0.1 * values.std() * noise, False, True),
        (lambda values, noise: values + values.std() * noise, False, False),
        (lambda values, noise: values[::-1], False, False),
        (lambda values, noise: values * 2, False, False),
        (lambda values, noise: values * np.inf, False, False),
    ],
    ids=["equal", "rounded", "noise", "exchanged", "doubled", "infinite"],
)
def test_what_each_precision_is_allowed(changed, float32, bfloat16):
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.Flatten()(image))
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 256, (4, 8, 8, 3), np.uint8)
    answers = pixels.reshape(4, -1).astype(np.float32)
    noise = rng.normal(size=answers.shape).astype(np.float32)
    check = self_check(SimpleNamespace(predict=lambda _: changed(answers, noise)), model, pixels)
    assert check.passed(TOLERANCES["float32"]) == float32
    assert check.passed(TOLERANCES["bfloat16"]) == bfloat16


def test_no_answer_at_all_is_no_other_answer():
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.Flatten()(image))
    black = np.zeros((2, 8, 8, 3), np.uint8)
    check = self_check(SimpleNamespace(predict=lambda _: np.zeros((2, 192), np.float32)), model, black)
    assert check.passed(TOLERANCES["bfloat16"])


@pytest.mark.slow
def test_a_training_tells_what_computed(openvino, nothing_is_refused, photo_folder, tmp_path):
    settings = {**SMALL, "engine": "openvino", "engine_precision": "bfloat16"}
    run = train(photo_folder, tmp_path / "run", strategy="probe", **settings)
    told = run.info["training"]["features"]
    assert (told["engine"], told["engine_precision"]) == ("openvino", "bfloat16")
    assert run.record.versions["openvino"] == engine_choice.version("openvino")
    assert run.record.request.settings.fit.engine_precision == "bfloat16"


def test_a_training_is_refused_before_the_data_are_read(
    nothing_is_refused, photo_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(engine_choice, "version", lambda _: "2025.4.1")
    settings = {**SMALL, "engine": "openvino"}
    for refused in (
        lambda: train(photo_folder, tmp_path / "run", **settings),
        lambda: plan_training(photo_folder, settings=TrainSettings.of(**settings)),
        lambda: compare(photo_folder, ["tiny"], engine="openvino"),
        lambda: save_features(photo_folder, tmp_path / "features.npz", engine="openvino"),
        lambda: find_similar(photo_folder, [], engine="openvino"),
    ):
        with pytest.raises(UsageError, match=r"2025\.4\.1 is too old"):
            refused()
    assert not list(tmp_path.iterdir())


def test_a_head_for_the_device_is_not_fitted_on_bfloat16(
    nothing_is_refused, photo_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(engine_choice, "version", lambda package: "2026.4.1")
    settings = {**SMALL, "engine": "openvino", "engine_precision": "bfloat16", "deploy": "int8"}
    with pytest.raises(UsageError, match="--deploy int8 computes the features as the device does"):
        train(photo_folder, tmp_path / "run", **settings)


@pytest.mark.parametrize("verb", [["train", "--output", "run"], ["compare", "--backbones", "tiny"]])
def test_the_command_line_says_so_in_one_line(verb, monkeypatch, photo_folder):
    monkeypatch.setattr(engine_choice, "version", lambda _: "2025.4.1")
    name, *options = verb
    _, told = call(name, str(photo_folder), *options, "--engine", "openvino", code=2)
    assert "--engine openvino: openvino 2025.4.1 is too old" in told and "Traceback" not in told
