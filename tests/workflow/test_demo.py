"""The demo, whole: the acceptance of the main job on real solar cells."""

import json
from types import SimpleNamespace

import pytest
from keras_transfer_tests import SMALL

from keras_transfer.errors import DataError
from keras_transfer.settings import TrainSettings
from keras_transfer.workflow import demo
from keras_transfer.workflow.demo import cell_table, elpv_folder, run_demo
from keras_transfer.workflow.export import export_run


@pytest.mark.slow
def test_the_street_of_the_demo_on_a_few_cells_and_the_tiny_backbone(tmp_path, monkeypatch):
    """From the installed cells to the picture; what it is worth is measured at night."""

    def some(folder):
        head, *rows = cell_table(folder).splitlines(keepends=True)
        return head + "".join(rows[::16])

    def smaller(*, backbone, **settings):
        assert backbone == "efficientnet_lite0"
        return TrainSettings.of(**{**settings, **SMALL})

    def export_fewer(*arguments, precisions, **others):
        assert set(precisions) == {"float32", "float16", "int8"}
        return export_run(*arguments, formats=("tflite",), precisions=("float32", "float16"), **others)

    monkeypatch.setattr(demo, "cell_table", some)
    monkeypatch.setattr(demo, "TrainSettings", SimpleNamespace(of=smaller))
    monkeypatch.setattr(demo, "export_run", export_fewer)
    result = run_demo(tmp_path / "demo")
    assert result.run.info["metrics"]["test"]["images"] == 41
    for row in result.report.to_dict()["artefacts"]:
        assert row["agreement"] == 1.0
    assert result.picture.stat().st_size > 10_000


@pytest.mark.nightly
def test_the_demo_meets_its_bars(tmp_path):
    """At least 84 % on the held-out quarter, float32 equal to Keras, int8 within one point, all files in place."""
    result = run_demo(tmp_path / "demo")
    metrics = result.run.info["metrics"]["test"]
    assert metrics["images"] == 656
    assert metrics["accuracy"] >= 0.84
    rows = {row["file"]: row for row in result.report.to_dict()["artefacts"]}
    tflite = {"model.tflite", "model_float16.tflite", "model_int8.tflite"}
    assert set(rows) == {"model.keras", "saved_model/"} | tflite
    for name in ("model.keras", "saved_model/", "model.tflite"):
        assert rows[name]["agreement"] == 1.0
        assert rows[name]["max_difference"] <= 1e-4
    assert rows["model_int8.tflite"]["accuracy"] >= rows["model_int8.tflite"]["keras_accuracy"] - 0.01
    assert rows["model.tflite"]["keras_accuracy"] == pytest.approx(metrics["accuracy"], abs=1e-9)
    assert result.picture.stat().st_size > 10_000
    json.dumps(result.run.info, allow_nan=False)


def test_the_cells_are_those_of_the_paper(tmp_path):
    rows = cell_table(elpv_folder()).splitlines()[1:]
    assert len(rows) == 2624
    assert sum(row.endswith(",defective") for row in rows) == 821
    (tmp_path / "labels.csv").write_text("images/cell0001.png 1.0 mono\n")
    with pytest.raises(DataError, match="2624 rows"):
        cell_table(tmp_path)
