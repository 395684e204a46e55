"""Training that can be trusted: the guard, the plan beforehand, the same run twice, a teacher, changed data."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from keras_transfer_tests import SMALL
from PIL import Image
from scipy.special import log_softmax

from keras_transfer.errors import DataError, KerasTransferError, UsageError
from keras_transfer.heads import logits_model
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.run import open_run
from keras_transfer.settings import TrainSettings
from keras_transfer.tasks.builtin import ClassificationOptions
from keras_transfer.tasks.planning import FIT_PASSES
from keras_transfer.training import embedding_problem
from keras_transfer.training.choosing import FOLDS
from keras_transfer.training.temperature import fit_temperature
from keras_transfer.workflow.evaluate import evaluate, run_table
from keras_transfer.workflow.plan import plan_training
from keras_transfer.workflow.replay import replay
from keras_transfer.workflow.teacher import teacher_probabilities
from keras_transfer.workflow.train import train

TOP = {"unfreeze": "from:block5b", "epochs": 1, "batch_size": 8, **SMALL}


@pytest.mark.slow
def test_fine_tuning_that_is_not_better_leaves_the_probe(finished_run, photo_folder, tmp_path):
    """After a rate that ruins the network the result is the probe, bit by bit."""
    run = train(
        photo_folder, tmp_path / "run", strategy="finetune", learning_rate=0.5, schedule="constant", **TOP
    )
    guard = run.info["training"]["guard"]
    assert guard["kept"] == "probe" and guard["guard"] and guard["probe"] > guard["tuned"]
    for a, b in zip(run.load_model().get_weights(), finished_run.load_model().get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert run.info["metrics"] == finished_run.info["metrics"]


@pytest.mark.nightly
def test_without_the_guard_the_worse_model_is_kept_and_both_are_told(photo_folder, tmp_path, capsys):
    values = {"strategy": "finetune", "learning_rate": 0.5, "schedule": "constant", "augment": "light", **TOP}
    run = train(photo_folder, tmp_path / "run", guard=False, **values)
    guard = run.info["training"]["guard"]
    assert guard["kept"] == "fine-tuned" and not guard["guard"] and guard["tuned"] < guard["probe"]
    assert guard["verdicts"][0]["metric"] == "accuracy"
    assert evaluate(run, split="val")["accuracy"] == pytest.approx(guard["tuned"])
    kinds = {type(layer).__name__ for layer in run.load_model().layers}
    assert kinds and not [kind for kind in kinds if kind.startswith("Random")], (
        "augmentation is no part of it"
    )


@pytest.fixture(scope="module")
def hazy_folder(tmp_path_factory, photos):
    """320 real crops of 64 pixels; every tenth is in the other class's folder, so that nobody can be sure."""
    root = tmp_path_factory.mktemp("hazy")
    rng = np.random.default_rng(0)
    names = list(photos)
    for number in range(320):
        label = number % 2
        y, x = rng.integers(0, 360), rng.integers(0, 570)
        folder = root / names[label if number % 20 > 1 else 1 - label]
        folder.mkdir(exist_ok=True)
        Image.fromarray(photos[names[label]][y : y + 64, x : x + 64]).save(folder / f"{number:03d}.png")
    return root


@pytest.mark.slow
def test_probabilities_are_calibrated_where_there_are_images_enough(hazy_folder, tmp_path):
    """The temperature is folded in: sharper or softer probabilities, the same decisions."""
    options = {"strategy": "probe", "refit": False, "val_fraction": 0.25, "test_fraction": 0.25, **SMALL}
    run = train(hazy_folder, tmp_path / "run", **options)
    plain = train(
        hazy_folder, tmp_path / "plain", task_options=ClassificationOptions(calibrate=False), **options
    )
    found = run.info["training"]["temperature"]
    assert found["value"] != 1.0 and "80 validation images" in found["why"]
    assert set(found) == {"value", "why"}
    measured = run.info["metrics"]["test"]
    assert measured["uncalibrated_error"] != measured["calibration_error"]
    assert "uncalibrated_error" not in plain.info["metrics"]["test"]
    assert measured["uncalibrated_error"] == pytest.approx(
        plain.info["metrics"]["test"]["calibration_error"], abs=1e-4
    )
    assert (run.path / "plots" / "reliability.png").is_file()
    assert "temperature" not in plain.info["training"]
    assert not (plain.path / "plots" / "reliability.png").exists()
    ours, theirs = run.load_model(), plain.load_model()
    for mine, other in zip(
        ours.get_layer("logits").get_weights(), theirs.get_layer("logits").get_weights(), strict=True
    ):
        np.testing.assert_allclose(mine * found["value"], other, rtol=1e-4, atol=1e-6)
    on_val = [evaluate(one, split="val") for one in (run, plain)]
    assert on_val[0]["accuracy"] == on_val[1]["accuracy"] and on_val[0]["log_loss"] < on_val[1]["log_loss"]
    assert "determinism" in run.info


@pytest.mark.slow
def test_a_head_that_learned_from_validation_images_is_calibrated_by_cross_validation(hazy_folder, tmp_path):
    """Of the images that it has learned from it is too sure: what it says of them would make it surer yet."""
    options = {"strategy": "probe", "val_fraction": 0.25, "test_fraction": 0.25, **SMALL}
    run = train(hazy_folder, tmp_path / "run", **options)
    found = run.info["training"]["temperature"]
    assert found["why"] == "chosen on 160 training and 80 validation images, cross-validated"
    table, model = run_table(run), run.load_model()
    pixels = Preprocessing.from_dict(run.info["preprocessing"])
    logits = {}
    for split in ("val", "test"):
        rows = table.indices(split)
        images = np.stack([table.images.load(row, pixels) for row in rows])
        plain = found["value"] * np.asarray(logits_model(model)(images, training=False))
        logits[split] = plain, table.labels[rows]
    assert fit_temperature(*logits["val"]) < found["value"]

    def loss(temperature):
        scores, labels = logits["test"]
        return -log_softmax(scores / temperature, axis=1)[np.arange(len(labels)), labels].mean()

    assert loss(found["value"]) < loss(fit_temperature(*logits["val"]))


@pytest.mark.nightly
def test_statistics_are_adapted_first_and_then_frozen(photo_folder, finished_run, tmp_path):
    """The same after fine-tuning as after a probe alone, and others than those of the given weights."""

    def statistics(run):
        return {w.path: w.numpy() for w in run.load_model().weights if "moving_" in w.path}

    values = {**TOP, "batchnorm": "adapt", "guard": False}
    tuned = train(photo_folder, tmp_path / "tuned", strategy="finetune", **values)
    probe = train(photo_folder, tmp_path / "probe", strategy="probe", **values)
    found, adapted, plain = (statistics(run) for run in (tuned, probe, finished_run))
    assert tuned.info["training"]["adapted"]["images"] == 26 and len(found) == 14
    for path, value in found.items():
        np.testing.assert_array_equal(value, adapted[path])
        assert not np.array_equal(value, plain[path]), path


@pytest.mark.slow
def test_a_probe_that_changed_the_backbone_fails(photo_folder, tmp_path, monkeypatch):
    from keras_transfer.tasks import classification

    genuine = classification.fit_probe

    def meddling(model, *arguments, **values):
        kernel = model.get_layer("stem_conv").kernel
        kernel.assign(kernel * 1.0001)
        return genuine(model, *arguments, **values)

    monkeypatch.setattr(classification, "fit_probe", meddling)
    with pytest.raises(KerasTransferError, match="stem_conv"):
        train(photo_folder, tmp_path / "run", strategy="probe", **SMALL)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_neighbours_that_cannot_be_balanced_say_so(photo_folder, tmp_path, caplog):
    options = ClassificationOptions(head="knn")
    train(photo_folder, tmp_path / "run", task_options=options, strategy="probe", balance="weights", **SMALL)
    assert "--balance weights has no say in --head knn" in caplog.text


def test_a_recorded_split_without_a_class_in_training_is_refused(photo_folder, finished_run, tmp_path):
    rows = list(csv.DictReader(finished_run.split_path.open(newline="")))
    for row in rows:
        if row["label"] == "flower" and row["split"] == "train":
            row["split"] = "val"
    path = tmp_path / "split.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(DataError, match=r"images of 'flower', and the train split has none"):
        train(photo_folder, tmp_path / "run", split_from=str(path), strategy="probe", **SMALL)


@pytest.mark.nightly
def test_without_validation_images_the_guard_cannot_judge(photo_folder, tmp_path):
    with pytest.raises(DataError, match="--no-guard"):
        train(photo_folder, tmp_path / "run", strategy="finetune", val_fraction=0.0, **TOP)
    run = train(photo_folder, tmp_path / "run", strategy="finetune", val_fraction=0.0, guard=False, **TOP)
    assert "guard" not in run.info["training"]


def test_the_plan_is_what_the_run_then_does_and_nothing_is_written(
    photo_folder, finished_run, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    plan = plan_training(photo_folder, settings=TrainSettings.of(strategy="probe", **SMALL))
    assert plan["plan"][0]["blocks"] == finished_run.info["training"]["plan"]["blocks"]
    assert plan["data"]["splits"] == finished_run.info["data"]["splits"]
    assert plan["strategy"] == "probe" and plan["learning_rate"] is None
    weights = 64 * 2  # of the head; each step of the fit goes over them and the training images twice
    cost = plan["cost"]["fitting_multiply_adds"]
    assert cost == 2 * FIT_PASSES * (FOLDS * 26 + 32) * weights, (
        "6 are too few to choose, and are learned from"
    )
    assert not list(tmp_path.iterdir())
    more = plan_training(
        photo_folder, settings=TrainSettings.of(strategy="finetune", milestone=("2=blocks:4",), **SMALL)
    )
    assert [phase["epoch"] for phase in more["plan"]] == [0, 2]
    assert more["cost"]["training_multiply_adds"] > more["cost"]["extraction_multiply_adds"] > 0
    whole = plan_training(
        photo_folder, settings=TrainSettings.of(strategy="finetune", milestone=("2=all",), **SMALL)
    )
    costs = [plan["cost"]["training_multiply_adds"] for plan in (more, whole)]
    assert costs[0] < costs[1], "the phases differ from epoch 2 on"
    json.dumps(more, allow_nan=False)


@pytest.mark.parametrize(
    ("milestone", "said"),
    [(("x",), "EPOCH=RULE"), (("3=blocks:3", "2=blocks:4"), "in order"), (("99=all",), "below --epochs")],
)
def test_a_milestone_that_is_none_is_refused(photo_folder, milestone, said):
    with pytest.raises(UsageError, match=said):
        plan_training(
            photo_folder, settings=TrainSettings.of(strategy="finetune", milestone=milestone, **SMALL)
        )


@pytest.mark.nightly
def test_a_replay_is_bit_identical(photo_folder, tmp_path):
    run = train(
        photo_folder,
        tmp_path / "run",
        strategy="finetune",
        guard=False,
        augment="light",
        learning_rate=1e-3,
        **TOP,
    )
    result = replay(run)
    assert result["identical"] and result["largest_weight_difference"] == 0.0 and not result["versions"]


@pytest.mark.nightly
def test_a_replay_notices_that_a_model_was_tampered_with(finished_run, tmp_path):
    run = open_run(shutil.copytree(finished_run.path, tmp_path / "run"))
    model = run.load_model()
    kernel = model.get_layer("logits").kernel
    kernel.assign(kernel * 1.01)
    model.save(run.model_path)
    tampered = replay(run.path)
    assert not tampered["identical"] and not tampered["weights"] and tampered["split"]


@pytest.mark.slow
def test_a_run_on_arrays_cannot_be_replayed(photos, tmp_path):
    images = np.stack(
        [photos[name][y : y + 64, y : y + 64] for name in ("china", "flower") for y in range(12)]
    )
    run = train((images, np.repeat([0, 1], 12)), tmp_path / "run", strategy="probe", **SMALL)
    with pytest.raises(UsageError, match="from Python"):
        replay(run)


@pytest.mark.nightly
def test_a_teacher_may_be_a_model_file(finished_run, photo_folder, tmp_path):
    """Exported, or a bare Keras file with its labels: the same answers as the run's."""
    from keras_transfer.data import load_data
    from keras_transfer.workflow.export import export_run

    table = load_data(photo_folder)
    answers = teacher_probabilities(finished_run.path, table)
    edge = tmp_path / "edge"
    export_run(finished_run, edge, formats=("tflite", "saved-model"))
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(finished_run.model_path, bare / "model.keras")
    shutil.copy(edge / "labels.txt", bare)
    for file in (edge / "model.tflite", edge / "saved_model", bare / "model.keras"):
        np.testing.assert_allclose(teacher_probabilities(file, table), answers, atol=1e-4)


@pytest.mark.slow
def test_a_teacher_answers_once_in_the_order_of_the_data(finished_run, photo_folder, tmp_path, monkeypatch):
    from keras_transfer.data import load_data
    from keras_transfer.workflow import teacher

    table = load_data(photo_folder)
    answers = teacher_probabilities(finished_run.path, table)
    assert answers.shape == (40, 2)
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)
    assert np.mean(answers.argmax(axis=1) == table.labels) > 0.8
    other_way = load_data(photo_folder, classes=("flower", "china"))
    order = [list(other_way.sha256).index(digest) for digest in table.sha256]
    genuine, asked = teacher.open_model, []

    def listening(path):
        loaded = genuine(path)
        return replace(loaded, predict=lambda pixels: asked.append(len(pixels)) or loaded.predict(pixels))

    monkeypatch.setattr(teacher, "open_model", listening)
    np.testing.assert_array_equal(
        teacher_probabilities(finished_run.path, other_way)[order][:, ::-1], answers
    )
    assert not asked, "the answers were kept"
    monkeypatch.setenv("KERAS_TRANSFER_CACHE", str(tmp_path))
    np.testing.assert_array_equal(teacher_probabilities(finished_run.path, table), answers)
    assert sum(asked) == 40


@pytest.mark.slow
def test_a_teacher_of_other_classes_is_refused_by_name(finished_run, photo_folder, tmp_path):
    from keras_transfer.data import load_data

    shutil.copytree(photo_folder, tmp_path / "data")
    (tmp_path / "data" / "flower").rename(tmp_path / "data" / "dahlia")
    with pytest.raises(UsageError, match=r"only the teacher has 'flower', only the data have 'dahlia'"):
        teacher_probabilities(finished_run.path, load_data(tmp_path / "data"))
    with pytest.raises(UsageError, match="--strategy finetune or full"):
        train(photo_folder, tmp_path / "run", strategy="probe", teacher=str(finished_run.path), **SMALL)


@pytest.mark.nightly
def test_a_student_is_measured_against_the_softened_teacher(photo_folder, tmp_path):
    """A student that begins as its own teacher has, at the start, the lowest loss there is: the teacher's entropy."""
    # A teacher that had learned from the validation images, too, would not be what the student begins as.
    teacher = train(photo_folder, tmp_path / "teacher", strategy="probe", refit=False, **SMALL).path
    run = train(
        photo_folder,
        tmp_path / "run",
        strategy="finetune",
        teacher=str(teacher),
        teacher_weight=1.0,
        temperature=4.0,
        **TOP,
    )
    table = run_table(run)
    answers = teacher_probabilities(teacher, table)[table.indices("val")]
    soft = answers ** (1 / 4)
    soft /= soft.sum(axis=1, keepdims=True)
    entropy = float(-(soft * np.log(soft)).sum(axis=1).mean())
    first, after = (row["val_loss"] for row in _history(run))
    assert first == pytest.approx(16 * entropy, rel=1e-3)
    assert after >= first - 1e-6


def _history(run):
    with (run.path / "history.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def interrupt(monkeypatch, source, output, **arguments):
    """A training that is interrupted when its first epoch has been kept."""
    from keras_transfer.training import finetune
    from keras_transfer.training.callbacks import CloseEpoch

    class Stopping(CloseEpoch):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(finetune, "CloseEpoch", Stopping)
        with pytest.raises(KeyboardInterrupt):
            train(source, output, **arguments)


@pytest.mark.nightly
def test_an_interrupted_run_refuses_other_images_and_says_which(photo_folder, tmp_path, monkeypatch):
    shutil.copytree(photo_folder, tmp_path / "data")
    arguments = {**TOP, "epochs": 2, "strategy": "finetune", "guard": False}
    interrupt(monkeypatch, tmp_path / "data", tmp_path / "run", **arguments)
    extra = tmp_path / "data" / "china" / "new.png"
    extra.write_bytes((photo_folder / "flower" / "000.png").read_bytes() + b"trailing")
    with pytest.raises(UsageError, match=r"1 new, such as china/new.png"):
        train(tmp_path / "data", tmp_path / "run", **arguments)
    assert (tmp_path / ".run.partial").exists(), "the refusal keeps what there is"
    extra.unlink()
    run = train(tmp_path / "data", tmp_path / "run", **arguments)
    assert run.info["training"]["gradient"]["resumed_at"] == 1


@pytest.mark.nightly
def test_an_interrupted_run_refuses_other_weights_under_the_same_name(photo_folder, tmp_path, monkeypatch):
    from keras_transfer.backbones import load_backbone

    weights = tmp_path / "mine.weights.h5"
    network = load_backbone("tiny", weights="none", image_size=64)
    network.save_weights(weights)
    first = weights.read_bytes()
    arguments = {"weights": str(weights), "epochs": 2, "strategy": "full", "guard": False, **SMALL}
    interrupt(monkeypatch, photo_folder, tmp_path / "run", **arguments)
    network.set_weights([value + 1 for value in network.get_weights()])
    network.save_weights(weights)
    with pytest.raises(UsageError, match=r"other settings \(weights: '[0-9a-f]{64}' then"):
        train(photo_folder, tmp_path / "run", **arguments)
    weights.write_bytes(first)
    run = train(photo_folder, tmp_path / "run", **arguments)
    assert run.info["training"]["gradient"]["resumed_at"] == 1


@pytest.mark.parametrize(
    ("head", "least"),
    [
        pytest.param("svm", 0.8, marks=pytest.mark.slow),
        pytest.param("svm-rbf", 0.8, marks=pytest.mark.nightly),
        pytest.param("knn", 0.8, marks=pytest.mark.slow),
        pytest.param("prototype", 0.65, marks=pytest.mark.nightly),
    ],
)
def test_every_head_ends_as_one_model_that_answers_like_its_metrics(
    photo_folder, tmp_path, head, least, monkeypatch
):
    monkeypatch.setattr(embedding_problem, "ENOUGH", 1)  # the few validation images choose
    run = train(
        photo_folder,
        tmp_path / "run",
        task_options=ClassificationOptions(head=head),
        strategy="probe",
        **SMALL,
    )
    measured = evaluate(open_run(run.path))
    assert measured["accuracy"] == run.info["metrics"]["test"]["accuracy"]
    assert evaluate(run, split="all")["accuracy"] >= least
    assert run.info["training"]["head"]["kind"] == head
    with pytest.raises(UsageError, match="--head linear"):
        options = ClassificationOptions(head=head)
        train(photo_folder, tmp_path / "no", task_options=options, strategy="full", **SMALL)


@pytest.mark.slow
def test_more_views_are_another_answer_and_one_is_the_same(finished_run):
    one, two = evaluate(finished_run), evaluate(finished_run, views=2)
    assert one["log_loss"] == finished_run.info["metrics"]["test"]["log_loss"]
    assert two["views"] == 2 and two["log_loss"] != one["log_loss"]


@pytest.mark.nightly
def test_fine_tuning_that_is_better_replaces_the_probe(photo_folder, tmp_path):
    """Both are right on all few validation images: the log loss decides, and the network that learned has it lower."""
    values = {"epochs": 12, "unfreeze": "all", "learning_rate": 3e-3, "seed": 1}
    run = train(photo_folder, tmp_path / "run", strategy="finetune", **{**TOP, **values})
    probe = train(photo_folder, tmp_path / "probe", strategy="probe", seed=1, **SMALL)
    guard = run.info["training"]["guard"]
    assert guard["metric"] == "accuracy" and guard["probe"] == guard["tuned"] == 1.0
    assert guard["decided_by"]["metric"] == "log_loss"
    assert guard["decided_by"]["tuned"] < guard["decided_by"]["probe"] and guard["kept"] == "fine-tuned"
    assert run.info["metrics"]["test"]["log_loss"] != probe.info["metrics"]["test"]["log_loss"]
    before, after = probe.load_model(), run.load_model()
    changed = [a.path for a, b in zip(before.weights, after.weights, strict=True) if not np.array_equal(a, b)]
    assert any("block5b" in path for path in changed)
