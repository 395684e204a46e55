"""A comparison: what it measures is what `train` would, networks without weights are rows, and files are whole."""

import json
import os

import numpy as np
import pytest
from keras_transfer_tests import SMALL
from PIL import Image

from keras_transfer.errors import DataError, OfflineError, UsageError
from keras_transfer.evaluation.plots_compare import comparison_chart
from keras_transfer.workflow import compare as module
from keras_transfer.workflow.compare import compare

MEASURED = {"validation", "test", "test_accuracy", "test_interval", "logme", "parameters", "bytes"}
REAL = os.environ.get("KERAS_TRANSFER_TEST_WEIGHTS")
SECOND = {"efficientnet_lite0": f"mobilenet={REAL}"} if REAL else {}


@pytest.fixture(
    scope="module", params=["tiny", pytest.param("efficientnet_lite0", marks=pytest.mark.nightly)]
)
def network(request):
    """The network that is compared with one without weights."""
    return request.param


@pytest.fixture(scope="module")
def compared(network, tmp_path_factory, photo_folder):
    """Two networks that work, one of them named twice, and one whose weights are not on this machine."""
    output = tmp_path_factory.mktemp("compared") / "comparison"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_TRANSFER_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        names = ["vgg16", network, SECOND.get(network, "tiny=none"), network.upper()]
        first = compare(photo_folder, names, output=output, image_size=96, min_per_class=3)
        again = compare(photo_folder, [network], image_size=96, metric="macro_f1")
    return first, again, output


@pytest.mark.slow
def test_every_backbone_has_a_row_and_the_best_on_validation_is_first(compared, network):
    result, _, _ = compared
    worked = [row for row in result["rows"] if row["error"] is None]
    second = SECOND.get(network, "tiny=none").split("=")
    assert {(row["backbone"], row["weights"]) for row in worked} == {(network, "auto"), tuple(second)}
    assert len(worked) == 2
    scores = [row["validation"] for row in worked]
    assert scores == sorted(scores, reverse=True)
    for row in worked:
        low, high = row["test_interval"]
        assert 0 <= low <= row["test_accuracy"] <= high <= 1
        assert low < high
        assert row["image_size"] == [96, 96]
        # float32 weights make up nearly all of the file (batch normalization is folded into the layers before)
        assert 3.5 * row["parameters"] < row["bytes"] < 5 * row["parameters"]
        assert row["milliseconds"] > 0
        assert (row["computed"], row["cached"]) == (40, 0)
        assert np.isfinite(row["logme"])
    if network == "efficientnet_lite0":
        assert next(row for row in worked if row["backbone"] == network)["test_accuracy"] >= 0.85


@pytest.mark.slow
def test_a_backbone_that_cannot_be_used_is_a_row_with_its_sentence(compared):
    result, _, _ = compared
    failed = {row["backbone"]: row for row in result["rows"] if row["error"]}
    assert "downloads are forbidden" in failed["vgg16"]["error"]
    assert not MEASURED & set(failed["vgg16"])
    assert [row["backbone"] for row in result["rows"][-len(failed) :]] == list(failed)


@pytest.mark.slow
def test_the_front_holds_the_most_accurate_and_the_fastest_is_on_it_or_beaten(compared):
    worked = [row for row in compared[0]["rows"] if row["error"] is None]
    for row in worked:
        better = [
            other
            for other in worked
            if other["milliseconds"] <= row["milliseconds"]
            and other["test_accuracy"] >= row["test_accuracy"]
            and other is not row
        ]
        assert row["front"] == (not better)


@pytest.mark.slow
def test_the_files_are_whole_and_say_the_same(compared):
    result, _, output = compared
    assert sorted(path.name for path in output.iterdir()) == ["compare.json", "compare.png"]
    assert json.loads((output / "compare.json").read_text(encoding="utf-8")) == result
    with Image.open(output / "compare.png") as image:
        assert image.size[0] > 600


@pytest.mark.slow
def test_the_second_time_no_image_is_computed_and_the_answer_is_the_same(compared):
    first, again, _ = compared
    before = next(row for row in first["rows"] if row["weights"] == "auto" and not row["error"])
    (row,) = again["rows"]
    assert (row["computed"], row["cached"]) == (0, 40)
    same = ("test_accuracy", "test_interval", "logme", "parameters", "bytes", "engine")
    assert {key: row[key] for key in same} == {key: before[key] for key in same}
    assert again["metric"] == "macro_f1"
    assert row["front"]


@pytest.mark.nightly
def test_it_measures_what_a_training_run_measures_and_leaves_it_the_features(photo_folder, tmp_path):
    from keras_transfer.workflow.train import train

    same = {**SMALL, "seed": 3}
    (row,) = compare(photo_folder, ["tiny"], **same)["rows"]
    run = train(photo_folder, tmp_path / "run", strategy="probe", **same)
    assert row["test_accuracy"] == run.info["metrics"]["test"]["accuracy"]
    assert run.info["training"]["features"]["computed"] == 0


@pytest.mark.slow
def test_when_none_works_the_error_is_raised(photo_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(OfflineError, match=r"^The ImageNet weights of resnet50"):
        compare(photo_folder, ["resnet50"], image_size=64)
    with pytest.raises(OfflineError, match="None of the 2 backbones") as caught:
        compare(photo_folder, ["resnet50", "xception=none"], image_size=64)
    assert "resnet50" in str(caught.value)
    assert "71 pixels" in str(caught.value)


@pytest.mark.parametrize(
    ("names", "values", "message"),
    [
        ([], {}, "No backbone"),
        (["efficientnet_lite"], {}, "efficientnet_lite0"),
        (["resnet5=none"], {}, "resnet50"),
        ("resnet50", {}, "a list of names"),
        (["resnet50"], {"metric": "log_loss"}, "balanced_accuracy"),
        (["resnet50"], {"image_sise": 96}, "image_size"),
        (["resnet50"], {"val_fraction": 2.0}, "--val-fraction"),
        (["resnet50"], {"settings": module.TrainSettings(), "seed": 1}, "not both"),
    ],
)
def test_wrong_arguments_are_refused_before_any_data_is_read(names, values, message):
    with pytest.raises(UsageError, match=message):
        compare("no such folder", names, **values)


def test_an_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        compare("no such folder", ["resnet50"], output=tmp_path / "out")


@pytest.mark.parametrize("missing", ["val", "test"])
def test_a_missing_split_is_refused_before_any_network_is_built(photo_folder, missing):
    with pytest.raises(DataError, match=f"no {missing} images"):
        compare(photo_folder, ["vgg16"], **{f"{missing}_fraction": 0.0})


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 12])
def test_the_picture_is_drawn_for_one_and_for_many_that_are_alike(tmp_path, count):
    rows = [
        {
            "backbone": f"inception_resnet_v{i}",
            "milliseconds": 5.0 + 0.1 * (i % 3),
            "test_accuracy": 0.9,
            "test_interval": [0.85, 0.94],
            "bytes": 10 ** (4 + i // 3),
            "front": i % 3 == 0,
            "error": None,
        }
        for i in range(count)
    ]
    comparison_chart([*rows, {"backbone": "vgg16", "weights": "auto", "error": "No."}], tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size[0] > 600
