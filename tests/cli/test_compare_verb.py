"""`compare` on the command line: a table, JSON, and names refused before anything heavy happens."""

import json
import subprocess
import sys

import pytest

from keras_transfer.testing.command import call


def test_unknown_names_are_refused_without_tensorflow_and_without_data():
    code = (
        "import sys; sys.argv = ['keras-transfer', 'compare', 'nowhere', '--backbones', sys.argv[1]]\n"
        "from keras_transfer.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert stop.code == 2, stop.code\n"
        "assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules)\n"
    )
    for names, hint in (("efficientnet_lite0,resnet5", "Did you mean resnet50"), (" , ", "no network")):
        done = subprocess.run([sys.executable, "-c", code, names], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert hint in done.stderr


def test_help_tells_the_data_and_the_image_options_but_no_single_backbone():
    out, _ = call("compare", "--help")
    for flag in (
        "--backbones",
        "--val-fraction",
        "--image-size",
        "--weights",
        "--offline",
        "--seed",
        "--json",
    ):
        assert flag in out
    assert "--backbone " not in out
    assert "--epochs" not in out


def test_every_metric_of_the_workflow_can_be_chosen_and_no_other():
    from keras_transfer.cli.compare import compare
    from keras_transfer.workflow.compare import METRICS

    (option,) = [parameter for parameter in compare.params if parameter.name == "metric"]
    assert tuple(option.type.choices) == METRICS


@pytest.mark.nightly
def test_table_json_and_files(photo_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    arguments = ["compare", photo_folder, "--backbones", "vgg16,tiny", "--image-size", "64"]
    out, err = call(*arguments, "--offline", "--output", tmp_path / "out")
    assert "40 images" in err
    assert "tiny" in out
    assert "vgg16: The ImageNet weights of vgg16 are not on this machine" in out
    assert "Learned from 26 images, ranked by 6, tested on 8" in out
    assert (tmp_path / "out" / "compare.png").is_file()
    out, err = call(*arguments, "--metric", "balanced_accuracy", "--json", "--quiet")
    result = json.loads(out)
    assert err == ""
    assert result["metric"] == "balanced_accuracy"
    assert [row["backbone"] for row in result["rows"]] == ["tiny", "vgg16"]
    assert result["rows"][0]["cached"] == 40


@pytest.mark.slow
def test_when_none_works_the_exit_code_is_the_errors(photo_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    out, err = call("compare", photo_folder, "--backbones", "vgg16", "--image-size", "64", "--quiet", code=1)
    assert out == ""
    assert "downloads are forbidden" in err


@pytest.mark.nightly
def test_random_weights_need_no_file(photo_folder):
    out, _ = call(
        "compare",
        photo_folder,
        "--backbones=mobilenet_v3_small",
        "--weights=none",
        "--image-size=32",
        "--json",
    )
    (row,) = json.loads(out)["rows"]
    assert row["weights"] == "none"
    assert row["error"] is None
