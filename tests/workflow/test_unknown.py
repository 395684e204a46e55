"""``train --unknown``: a run that tells images that are like nothing it has learned, and one that does not."""

import json

import numpy as np
import pytest
from keras_transfer_tests import SMALL
from PIL import Image

from keras_transfer.errors import RunError, UsageError
from keras_transfer.run import open_run
from keras_transfer.testing.command import call
from keras_transfer.workflow.evaluate import evaluate
from keras_transfer.workflow.predict import predict
from keras_transfer.workflow.train import train


@pytest.fixture(scope="module")
def watchful(photo_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("unknown") / "run"
    return train(photo_folder, path, strategy="probe", unknown="mahalanobis", reject=0.1, **SMALL)


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """Cards of one green: nothing that a photograph's crops look like."""
    folder = tmp_path_factory.mktemp("outside")
    for number in range(12):
        pixels = np.full((96, 96, 3), (0, 250 - 5 * number, 20), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_the_run_keeps_the_measure_and_says_what_it_was_chosen_on(watchful, finished_run):
    note = watchful.record.contract.notes["unknown"]
    assert (note["method"], note["reject"], note["chosen_on"]) == ("mahalanobis", 0.1, "asked for")
    assert "cross-validated" in note["threshold_from"] and note["bytes"] <= 184_000
    assert "unfamiliarity.keras" in watchful.info["files"]
    assert "unknown" not in finished_run.record.contract.notes
    for a, b in zip(
        watchful.load_model().get_weights(), finished_run.load_model().get_weights(), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_predict_tells_unknown_images_from_others(watchful, finished_run, photo_folder, outside):
    strange = list(predict(watchful.path, [outside]))
    assert np.mean([not answer["answered"] for answer in strange]) > 0.8
    assert all((answer.get("reason") == "unknown") == (not answer["answered"]) for answer in strange)
    assert all(len(answer["classes"]) == 2 for answer in strange)
    threshold = watchful.record.contract.notes["unknown"]["threshold"]
    familiar = list(predict(watchful.path, [photo_folder]))
    assert all(answer["answered"] == (answer["unfamiliarity"] <= threshold) for answer in familiar)
    assert np.mean([answer["answered"] for answer in familiar]) > 0.7
    plain = list(predict(finished_run.path, [photo_folder]))
    assert all("answered" not in answer for answer in plain)
    for one, other in zip(familiar, plain, strict=True):
        assert one["classes"][0]["label"] == other["classes"][0]["label"]


def test_evaluate_says_what_is_withheld_and_what_is_still_accepted(watchful, finished_run, outside):
    found = evaluate(watchful.path, outside=outside)
    assert found["accuracy"] == evaluate(finished_run.path)["accuracy"]
    rejected = found["unknown"]
    assert 0 <= rejected["right_withheld"] <= rejected["unknown"] <= rejected["images"] == found["images"]
    assert found["outside"]["images"] == 12 and found["outside"]["auroc"] > 0.8
    answered = [answer["answered"] for answer in predict(watchful.path, [outside])]
    assert found["outside"]["accepted"] == pytest.approx(np.mean(answered))
    assert len(found["outside"]["accepted_images"]) == min(sum(answered), 5)


def test_the_command_line_says_it(watchful, outside):
    assert ": unknown (unfamiliarity " in call("predict", watchful.path, outside)[0]
    told = json.loads(call("predict", watchful.path, outside, "--json")[0])
    assert {answer["reason"] for answer in told if not answer["answered"]} == {"unknown"}
    text = call("evaluate", watchful.path, "--outside", outside)[0]
    assert "Unknown: " in text and "Outside: 12 images" in text


def test_what_cannot_be_is_said(watchful, finished_run, photo_folder, outside, tmp_path):
    with pytest.raises(UsageError, match="--outside needs a run that was trained with --unknown auto"):
        evaluate(finished_run.path, outside=outside)
    with pytest.raises(UsageError, match="no such folder"):
        evaluate(watchful.path, outside=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no image"):
        evaluate(watchful.path, outside=tmp_path / "empty")
    with pytest.raises(UsageError, match="--unknown energy compares classes, and the task regression"):
        train(photo_folder, tmp_path / "run", task="regression", unknown="energy", **SMALL)
    from keras_transfer.tasks.builtin import ClassificationOptions

    with pytest.raises(UsageError, match="--unknown vim needs the logits of a linear head"):
        options = ClassificationOptions(head="knn")
        train(photo_folder, tmp_path / "run", task_options=options, unknown="vim", **SMALL)
    assert not (tmp_path / "run").exists()


def test_a_run_whose_measure_is_gone_says_so(watchful, tmp_path, outside):
    import shutil

    copy = open_run(shutil.copytree(watchful.path, tmp_path / "copy"))
    (copy.path / "unfamiliarity.keras").write_bytes(b"nothing")
    with pytest.raises(RunError, match=r"unfamiliarity\.keras cannot be used"):
        list(predict(copy.path, [outside]))
    (copy.path / "unfamiliarity.keras").unlink()
    with pytest.raises(RunError, match=r"unfamiliarity\.keras is missing"):
        list(predict(copy.path, [outside]))


@pytest.mark.slow
def test_auto_with_numbers_and_with_a_neighbour_head(photo_folder, tmp_path):
    from keras_transfer.tasks.builtin import ClassificationOptions

    run = train(
        photo_folder,
        tmp_path / "knn",
        task_options=ClassificationOptions(head="knn"),
        unknown="auto",
        **SMALL,
    )
    assert run.record.contract.notes["unknown"]["method"] in ("mahalanobis", "knn")
    table = tmp_path / "numbers.csv"
    files = sorted(photo_folder.rglob("*.png")) or sorted(photo_folder.rglob("*.jpg"))
    lines = [f"{path},{number / 10}" for number, path in enumerate(files)]
    table.write_text("path,label\n" + "\n".join(lines) + "\n")
    run = train(
        table,
        tmp_path / "numbers",
        task="regression",
        unknown="auto",
        image_root=str(photo_folder),
        **SMALL,
    )
    assert run.record.contract.notes["unknown"]["method"] == "mahalanobis"
    assert "right_withheld" not in evaluate(run.path)["unknown"]
