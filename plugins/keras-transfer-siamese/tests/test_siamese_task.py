"""The task through the core's own verbs: train, evaluate, predict, export, verify; and its bad input."""

import json
import re
import shutil

import numpy as np
import pytest
from keras_transfer_siamese.classes import fingerprints
from keras_transfer_siamese.comparison import Comparison
from keras_transfer_siamese.spec import SiameseOptions
from keras_transfer_siamese.task import Siamese
from PIL import Image

from keras_transfer.litert import LiteRTModel
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.testing import conformance
from keras_transfer.testing.command import call

pytestmark = pytest.mark.slow
ON_LITE0 = ["--task", "siamese", "--image-size", "64", "--quiet"]
TRAINING = ["--backbone", "tiny", *ON_LITE0]
QUICK = ["--head-epochs", "5", "--episodes", "100"]
RAW = [*TRAINING, "--strategy", "probe", "--head", "raw", "--episodes", "100"]
SMALL = ["--task", "siamese", "--network", "conv4", "--loss", "prototypical", "--episodes", "100", "--quiet"]


@conformance(
    "siamese",
    options=SiameseOptions(head_epochs=5, episodes=100),
    settings={"backbone": "tiny", "strategy": "probe"},
)
def test_the_task_keeps_its_promises(check):
    check()


@pytest.mark.nightly
@conformance("siamese")
def test_the_task_keeps_its_promises_on_lite0(check):
    check()


@pytest.fixture(scope="module", params=["tiny", pytest.param("lite0", marks=pytest.mark.nightly)])
def street(request, glyphs, tmp_path_factory):
    """A run and its bundle: of the tiny backbone, and nightly of EfficientNet-Lite0 in every format."""
    folder = tmp_path_factory.mktemp("siamese") / request.param
    training, more = (TRAINING, ["--format", "tflite"]) if request.param == "tiny" else (ON_LITE0, [])
    settings = ["--head", "dense", "--episodes-at", "3x1", "--episodes-at", "2x5"]
    call("train", glyphs, "-o", folder / "run", *training, *settings)
    precisions = [word for name in ("none", "float16", "int8") for word in ("--quantize", name)]
    call("export", folder / "run", "--to", folder / "edge", *precisions, *more, "--quiet")
    return folder


def test_a_run_tells_what_it_learned_and_what_it_stands_on(street):
    info = json.loads((street / "run" / "run.json").read_text())
    notes, metrics = info["training"], info["metrics"]["test"]
    splits = info["data"]["splits"]
    inside = [{name for name, count in splits[s]["per_class"].items() if count} for s in splits]
    assert [len(names) for names in inside] == [11, 2, 3] and len(set.union(*inside)) == 16
    comparison = Comparison.from_dict(notes["comparison"])
    if street.name == "lite0":
        assert metrics["one_shot_accuracy"] >= notes["baseline"]["test"]["one_shot_accuracy"] + 0.03
        assert metrics["open_set_auroc"] > 0.8 and metrics["recall_at_1"] > 0.9
        assert notes["thresholds"]["0.1"] > comparison.threshold
    else:  # random features: what is learned is seen on the classes it was chosen on, the others are above chance
        chosen, raw = notes["head_guard"]["tuned"], notes["baseline"]["val"]["one_shot_accuracy"]
        assert notes["head"]["kind"] == "dense" and chosen >= raw + 0.03
        assert metrics["one_shot_accuracy"] > 0.5 and metrics["recall_at_1"] > 0.5
        assert metrics["open_set_auroc"] > 0.6
    assert set(metrics["episodes"]) == {"3x1", "2x5"} and metrics["episodes"]["2x5"]["episodes"] == 1000
    assert 0 < metrics["one_shot_interval"] < 0.02
    assert comparison.kind == "cosine" and -1 < comparison.threshold < 1
    assert notes["thresholds"]["0.1"] is not None and notes["thresholds"]["0.001"] is None
    assert info["output"]["kind"] == "embeddings" and info["output"]["shape"] == [notes["embedding_dim"]]
    assert "A" not in json.dumps(notes["trained_on"])  # hashes, not names
    assert metrics["at_chosen_thresholds"]["0.1"]["threshold"] == notes["thresholds"]["0.1"]
    plots = {path.name for path in (street / "run" / "plots").iterdir()}
    assert {"roc.png", "scores.png", "embeddings.png", "learning_curves.png"} <= plots


def test_with_few_classes_the_head_is_chosen_by_folds_and_learned_from_all_of_them(finished):
    """11 classes to learn from and 2 for validation are held out in turn; 3 are measured."""
    run = finished("siamese").path
    info = json.loads((run / "run.json").read_text())
    notes, head = info["training"], info["training"]["head"]
    assert notes["strategy"] == "probe" and "trained_head" not in notes and "head_guard" not in notes
    assert head["chosen_on"] == "cross-validation" and head["learned_from"] == ["train", "val"]
    assert (head["classes"], head["folds"]) == (13, 24)
    trials = {(trial["head"], trial["shrinkage"]): trial for trial in head["trials"]}
    assert {("raw", None), ("wccn", "auto"), ("power+wccn", 0.9)} <= set(trials) and len(trials) == 10
    behind = min(trial["behind_best"] / (trial["standard_error"] or 1) for trial in trials.values())
    (chosen, *_) = [trial for (name, _), trial in trials.items() if name == head["kind"]]
    assert behind == 0 and chosen["score"] >= trials["raw", None]["score"]
    rows = _split(run)
    learned = {row["label"] for row in rows if row["split"] != "test"}
    assert notes["trained_on"] == fingerprints(learned) and len(learned) == 13
    assert Comparison.from_dict(notes["comparison"]).threshold is not None
    _, said = call("evaluate", run, "--split", "val", code=1)
    assert "2 of the 2 classes were trained on" in said
    history = (run / "history.csv").read_text().splitlines()
    assert history[0] == "head,shrinkage,score,behind_best,standard_error" and len(history) == 11


@pytest.mark.nightly
def test_what_is_measured_on_is_not_chosen_by(glyphs, tmp_path):
    """Without test classes the validation classes are what is measured."""
    call("train", glyphs, "-o", tmp_path / "run", *TRAINING, "--strategy", "probe", "--test-fraction", "0")
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["training"]["head"]["learned_from"] == ["train"] and list(info["metrics"]) == ["val"]
    call("evaluate", tmp_path / "run", "--split", "val", "--quiet")


def test_evaluate_repeats_the_training_s_numbers_and_refuses_what_was_seen(street, glyphs):
    recorded = json.loads((street / "run" / "run.json").read_text())["metrics"]["test"]
    found = json.loads(call("evaluate", street / "run", "--json")[0])
    assert found["one_shot_accuracy"] == recorded["one_shot_accuracy"]
    assert found["equal_error_rate"] == recorded["equal_error_rate"]
    _, said = call("evaluate", street / "run", "--split", "train", code=1)
    assert "11 of the 11 classes were trained on" in said
    _, said = call("evaluate", street / "run", glyphs, "--split", "all", code=1)
    assert "11 of the 16 classes were trained on" in said and "--set allow_seen_classes" in said
    told = ["--set", "allow_seen_classes", "--set", "episodes-at=11x1", "--split", "train", "--json"]
    assert json.loads(call("evaluate", street / "run", *told)[0])["one_shot_ways"] == 11


def test_every_precision_recognises_like_keras(street, glyphs):
    bundle = json.loads((street / "edge" / "bundle.json").read_text())
    assert bundle["notes"]["comparison"]["kind"] == "cosine"
    rows = {row["precision"]: row for row in bundle["artefacts"]}
    assert set(rows) == {"float32", "float16", "int8"}
    for row in rows.values():
        assert row["one_shot_accuracy"] >= row["keras_one_shot_accuracy"] - 0.01
        assert row["metrics"]["equal_error_rate"] is not None
        assert row["metrics"]["cosine"] > 0.98
    assert rows["float32"]["metrics"]["cosine"] > 0.99999
    unseen = street / "unseen"
    if not unseen.exists():
        names = [row["label"] for row in _split(street / "run") if row["split"] == "test"]
        for name in set(names):
            shutil.copytree(glyphs / name, unseen / name)
    found = json.loads(call("verify", street / "edge", unseen, "--json")[0])
    bar = 0.8 if street.name == "lite0" else 0.5
    assert found["passed"] and found["artefacts"][0]["one_shot_accuracy"] > bar


def test_predict_gives_the_embedding(street, glyphs):
    (found,) = json.loads(call("predict", street / "run", glyphs / "A" / "DejaVuSans.png", "--json")[0])
    embedding = np.array(found["embedding"])
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-3)
    pixels = Preprocessing(size=(64, 64)).load(glyphs / "A" / "DejaVuSans.png")
    edge = LiteRTModel(street / "edge" / "model.tflite").predict(pixels[np.newaxis])[0]
    assert edge @ embedding > 0.9999


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("training", "layer", "channels"),
    [
        ([*TRAINING, *QUICK], "block3a_project_bn", 24),
        pytest.param(ON_LITE0, "block3b_add", 40, marks=pytest.mark.nightly),
    ],
)
def test_features_of_a_lower_layer_that_keep_their_places(glyphs, tmp_path, training, layer, channels):
    """The part of the backbone that is needed, and nothing above it, ends in the exported file."""
    options = ["--layer", layer, "--pooling", "flatten", "--episodes-at", "3x1"]
    call("train", glyphs, "-o", tmp_path / "run", *training, *options)
    notes = json.loads((tmp_path / "run" / "run.json").read_text())["training"]
    export = ["--format", "tflite", "--quantize", "float32", "--quiet"]
    call("export", tmp_path / "run", "--to", tmp_path / "edge", *export)
    (row,) = json.loads((tmp_path / "edge" / "bundle.json").read_text())["artefacts"]
    assert row["metrics"]["cosine"] > 0.99999 and row["one_shot_accuracy"] == row["keras_one_shot_accuracy"]
    import keras

    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    names = [layer.name for layer in model.layers]
    assert layer in names and not any(name.startswith("block4") for name in names)
    projection = model.get_layer("head_projection")
    assert projection.kernel.shape == (8 * 8 * channels, notes["embedding_dim"])


def test_layers_that_there_are_not(glyphs, tmp_path):
    _, said = call("train", glyphs, "-o", tmp_path / "run", *TRAINING, "--layer", "block3x", code=2)
    assert "no layer 'block3x'" in said and "block3" in said
    for option in (["--layer", "P3"], ["--pooling", "flatten"]):
        _, said = call("train", glyphs, "-o", tmp_path / "run", *SMALL, *option, code=2)
        assert "--network conv4 is learned from scratch" in said
    assert not (tmp_path / "run").exists()


def _split(run):
    import csv

    with (run / "split.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def without_plots(monkeypatch):
    """Drawing takes a third of a small training."""
    monkeypatch.setattr(Siamese, "plots", lambda self, outputs, data, metrics, folder: None)


@pytest.mark.nightly
@pytest.mark.usefixtures("without_plots", "eagerly_and_nightly_in_graphs")
def test_an_interrupted_training_goes_on_to_the_same_weights(glyphs, tmp_path, monkeypatch):
    import keras

    from keras_transfer.training import callbacks

    arguments = [glyphs, *SMALL, "--epochs", "2", "--augment", "light"]
    genuine = callbacks.CloseEpoch.on_epoch_end

    def stop(self, epoch, logs=None):
        genuine(self, epoch, logs)
        if epoch == 0:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.CloseEpoch, "on_epoch_end", stop)
        call("train", *arguments, "-o", tmp_path / "run", code=130)
    call("train", *arguments, "-o", tmp_path / "run")
    call("train", *arguments, "-o", tmp_path / "whole")
    first, second = (
        keras.models.load_model(tmp_path / name / "model.keras").get_weights() for name in ("run", "whole")
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    notes = json.loads((tmp_path / "run" / "run.json").read_text())["training"]
    assert notes["gradient"]["resumed_at"] > 0
    assert notes["baseline"]["embedding"].startswith("grey pixels")


@pytest.mark.usefixtures("without_plots", "eagerly_and_nightly_in_graphs")
@pytest.mark.parametrize(
    "loss", ["arcface", *(pytest.param(loss, marks=pytest.mark.nightly) for loss in ("bce", "triplet-hard"))]
)
def test_every_kind_of_loss_trains_a_network_from_scratch(glyphs, tmp_path, loss):
    call("train", glyphs, "-o", tmp_path / "run", *SMALL, "--loss", loss, "--epochs", "2")
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    comparison = Comparison.from_dict(info["training"]["comparison"])
    assert comparison.kind == ("weighted_l1" if loss == "bce" else "cosine")
    assert 0 < info["metrics"]["test"]["one_shot_accuracy"] <= 1
    if loss == "bce":
        assert len(comparison.weights) == info["training"]["embedding_dim"]


@pytest.mark.usefixtures("without_plots", "eagerly")
def test_fine_tuning_is_kept_only_where_it_is_better(glyphs, tmp_path):
    more = ["--strategy", "finetune", "--unfreeze", "blocks:1", "--epochs", "1", "--head", "power", *QUICK]
    call("train", glyphs, "-o", tmp_path / "run", *TRAINING, *more, "--learning-rate", "0.1")
    notes = json.loads((tmp_path / "run" / "run.json").read_text())["training"]
    assert notes["guard"]["kept"] == "head on frozen features"
    assert notes["guard"]["tuned"] <= notes["guard"]["probe"]


@pytest.mark.nightly
def test_alphabets_are_kept_apart(glyphs, tmp_path):
    for alphabet, characters in {"one": "ABDE", "two": "GHKM", "three": "NQRS"}.items():
        for name in characters:
            shutil.copytree(glyphs / name, tmp_path / "data" / alphabet / name)
    more = ["--levels", "2", "--protocol", "omniglot", "--episodes-at", "4x1"]
    call("train", tmp_path / "data", "-o", tmp_path / "run", *RAW, *more)
    splits: dict[str, set] = {}
    for row in _split(tmp_path / "run"):
        assert row["label"].count("/") == 1
        splits.setdefault(row["split"], set()).add(row["label"].split("/")[0])
    assert sorted(map(len, splits.values())) == [1, 1, 1]
    metrics = json.loads((tmp_path / "run" / "run.json").read_text())["metrics"]["test"]
    assert metrics["protocol"] == "omniglot" and metrics["one_shot_ways"] == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--balance", "weights"], "--balance weights was given, and the task siamese does not follow it"),
        (
            ["--label-smoothing", "0.1"],
            "--label-smoothing 0.1 was given, and the task siamese does not follow it",
        ),
        (["--deploy", "int8"], "--deploy"),
        (["--network", "koch", "--strategy", "probe"], "no pretrained weights"),
        (["--comparison", "weighted_l1"], "--loss bce"),
        (["--loss", "bce", "--comparison", "euclidean"], "another loss"),
        (["--episodes-at", "20"], "WAYSxSHOTS"),
        (["--protocol", "omniglot", "--episodes-at", "20x5"], "one-shot"),
        (["--loss", "tripplet"], "triplet-hard"),
    ],
)
def test_settings_that_make_no_sense_are_refused(glyphs, tmp_path, arguments, words):
    _, said = call("train", glyphs, "-o", tmp_path / "run", *TRAINING, *arguments, code=2)
    assert re.search(words, said), said
    assert not (tmp_path / "run").exists()


def test_more_ways_than_there_are_classes_is_refused(glyphs, tmp_path):
    _, said = call(
        "train", glyphs, "-o", tmp_path / "run", *SMALL[:-1], "--epochs", "1", "--episodes-at", "20x1", code=1
    )
    assert "20 ways and 1 shots need 20 classes" in said and "--episodes-at" in said
    assert "Strategy" not in said  # before the training, not after


@pytest.mark.nightly
def test_images_without_content_are_left_out_or_refused(glyphs, tmp_path):
    shutil.copytree(glyphs, tmp_path / "data")
    for name in "ABD":
        Image.new("RGB", (64, 64), (200, 200, 200)).save(tmp_path / "data" / name / "empty.png")
    call("train", tmp_path / "data", "-o", tmp_path / "run", *RAW)
    assert "one even colour" in (tmp_path / "run" / "skipped.csv").read_text()
    call("evaluate", tmp_path / "run", "--quiet")  # the recorded split knows nothing of them, and need not
    _, said = call("train", tmp_path / "data", "-o", tmp_path / "strict", *RAW, "--max-skipped", "0", code=1)
    assert "one even colour" in said


def test_splits_that_share_classes_are_refused_unless_told(glyphs, tmp_path):
    for split, names in {"train": "ABDE", "test": "DEGH"}.items():
        for name in names:
            shutil.copytree(glyphs / name, tmp_path / "data" / split / name)
    _, said = call("train", tmp_path / "data", "-o", tmp_path / "run", *SMALL, "--epochs", "1", code=1)
    assert "2 classes are in more than one split (D, E)" in said and "--allow-seen-classes" in said


@pytest.mark.nightly
def test_two_classes_can_be_verified_when_told(glyphs, tmp_path):
    for name in "AB":
        shutil.copytree(glyphs / name, tmp_path / "data" / name)
    _, said = call("train", tmp_path / "data", "-o", tmp_path / "run", *RAW, code=1)
    assert "There are 2 classes" in said
    more = ["--allow-seen-classes", "--val-fraction", "0.3", "--test-fraction", "0.3"]
    call("train", tmp_path / "data", "-o", tmp_path / "run", *RAW, *more)
    call("evaluate", tmp_path / "run", "--split", "all", "--quiet")


def test_a_class_with_one_image_is_said(glyphs, tmp_path):
    for split, names in {"train": "ABDEGH", "val": "KM", "test": "NQ"}.items():
        for name in names:
            shutil.copytree(glyphs / name, tmp_path / "data" / split / name)
    for name in "AB":
        for path in sorted((tmp_path / "data" / "train" / name).iterdir())[1:]:
            path.unlink()
    _, said = call("train", tmp_path / "data", "-o", tmp_path / "run", *RAW)
    assert "2 training classes have one image (A, B)" in said and "never as a match" in said
    notes = json.loads((tmp_path / "run" / "run.json").read_text())["training"]
    assert notes["classes"] == {"train": 6, "val": 2, "test": 2, "with_one_training_image": 2}


@pytest.mark.parametrize(
    ("arguments", "strategy", "trained"),
    [
        (["--strategy", "probe"], "probe", {"head"}),
        (["--strategy", "finetune", "--unfreeze", "blocks:1"], "finetune", {"top", "head"}),
        (["--strategy", "probe", "--head", "raw"], "probe", set()),
    ],
)
def test_a_dry_run_tells_what_trains_above_a_backbone(
    glyphs, tmp_path, monkeypatch, arguments, strategy, trained
):
    monkeypatch.chdir(tmp_path)
    asked = ["train", glyphs, *TRAINING, *arguments, "--dry-run"]
    told = json.loads(call(*asked, "--json")[0])
    (phase,) = told["plan"]
    assert told["strategy"] == strategy
    assert {row["block"] for row in phase["blocks"] if row["trainable"]} == trained
    cost = told["cost"]
    assert cost["extraction_multiply_adds"] == 160 * cost["multiply_adds_per_image"] > 0
    assert (cost["training_multiply_adds"] > 0) == (strategy == "finetune")
    assert "not estimated: the head fitted on them." in call(*asked)[0] and not list(tmp_path.iterdir())


def test_a_dry_run_of_a_network_from_scratch_trains_all_of_it(glyphs):
    shown, _ = call("train", glyphs, *SMALL, "--dry-run")
    told = json.loads(call("train", glyphs, *SMALL, "--dry-run", "--json")[0])
    (phase,) = told["plan"]
    assert told["backbone"] is None and told["image_size"] == [28, 28] and "No backbone" in shown
    assert phase["trainable"] == phase["parameters"] - 2 * 4 * 64  # but the moving statistics
    assert told["cost"]["complete"] and told["cost"]["extraction_multiply_adds"] == 0


def test_a_dry_run_refuses_what_could_not_be_measured(glyphs):
    asked = ["train", glyphs, *TRAINING, "--dry-run", "--val-fraction", "0", "--test-fraction", "0"]
    assert "No class is held out" in call(*asked, code=1)[1]
