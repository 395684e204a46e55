"""The smallest precision that is good enough is delivered, and the others are reported."""

import keras
import pytest

from keras_transfer.errors import ExportError, ParityError, UsageError
from keras_transfer.export import conversion, load_bundle
from keras_transfer.export.quantization import convert_integer
from keras_transfer.export.request import plan_targets

pytestmark = pytest.mark.slow


@pytest.fixture
def worse_int8(monkeypatch):
    """An int8 converter whose model exchanges the classes: of a trained network that is worse."""

    class Worse(conversion.Parts):
        def __init__(self, model, calibration):
            super().__init__(model, calibration)
            image = keras.Input(model.inputs[0].shape[1:])
            self.exchanged = keras.Model(image, model(image)[:, ::-1]), calibration

        def quantized(self, activations):
            if activations == 8:
                return convert_integer(*self.exchanged)
            return super().quantized(activations)

    monkeypatch.setattr(conversion, "Parts", Worse)


def test_the_first_within_the_budget_is_delivered(export, trained, worse_int8, tmp_path):
    report = export(
        model=trained, accuracy_budget=1, fallback=("int8", "int16x8", "float16"), calibration_size=8
    )
    assert [one.precision for one in report.artefacts] == ["float32", "int16x8"] and report.passed
    assert [one.precision for one in report.tried] == ["int8", "float16"]
    assert {path.name for path in (tmp_path / "edge").glob("*.tflite")} == {
        "model.tflite",
        "model_int16x8.tflite",
    }
    bundle = load_bundle(tmp_path / "edge")
    assert [one["precision"] for one in bundle.info["measured"]["tried"]] == ["int8", "float16"]
    assert set(bundle.golden()["expected"]) == {"model.tflite", "model_int16x8.tflite"}
    assert bundle.info["artefacts"][1]["tolerance"]["drop"] == 0.01


def test_a_precision_that_cannot_be_converted_is_passed_over(export, trained, monkeypatch, caplog, tmp_path):
    genuine = conversion.Conversion.write

    def write(self, path, precision):
        if precision.startswith("int"):
            raise ExportError("no such kernel")
        genuine(self, path, precision)

    monkeypatch.setattr(conversion.Conversion, "write", write)
    report = export(model=trained, accuracy_budget=1, fallback=("int8", "float16"), calibration_size=8)
    assert [one.precision for one in report.artefacts] == ["float32", "float16"] and report.passed
    assert "int8 is left out: no such kernel" in caplog.text and not report.tried
    with pytest.raises(ExportError, match="none of int8, int16x8"):
        export(
            tmp_path / "other",
            model=trained,
            accuracy_budget=1,
            fallback=("int8", "int16x8"),
            calibration_size=8,
        )
    assert not (tmp_path / "other").exists()


def test_when_none_is_good_enough_nothing_is_exported(export, trained, worse_int8, tmp_path):
    with pytest.raises(ParityError, match=r"model_int8\.tflite: Accuracy falls"):
        export(model=trained, accuracy_budget=1, fallback=("int8",), calibration_size=8)
    assert [path.name for path in (tmp_path / "edge").iterdir()] == ["parity.json"]
    report = export(model=trained, accuracy_budget=100, fallback=("int8",), calibration_size=8)
    assert [one.precision for one in report.artefacts] == ["float32", "int8"] and report.passed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accuracy_budget": -1}, "0 to 100"),
        ({"accuracy_budget": float("nan")}, "0 to 100"),
        ({"accuracy_budget": 1, "fallback": ("int4",)}, "no precision 'int4'"),
        ({"accuracy_budget": 1, "fallback": ()}, "No precision"),
        ({"accuracy_budget": 1, "fallback": ("float32", "int8")}, "float32 is asked for and in fallback"),
        ({"accuracy_budget": 1, "fallback": ("none", "int8")}, "none is asked for and in fallback"),
        ({"accuracy_budget": 1, "formats": ("keras",)}, "'tflite' was not asked for"),
    ],
)
def test_impossible_budgets_are_refused(export, changes, message):
    with pytest.raises(UsageError, match=message):
        export(**changes)


def test_none_is_float32_by_another_name():
    targets = plan_targets(("tflite",), ("none", "int8", "float32"))
    assert [(one.file, one.precision) for one in targets] == [
        ("model.tflite", "float32"),
        ("model_int8.tflite", "int8"),
    ]
    assert plan_targets(("keras",), ("none",)) == plan_targets(("keras",), ("float32",))
