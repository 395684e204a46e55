"""The promises of a task, one function each. A broken one is a sentence to the task's author."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np

from keras_transfer import options as option_tools
from keras_transfer.backbones import load_backbone
from keras_transfer.backbones.blocks import leaf_layers
from keras_transfer.data.pipeline import input_batches
from keras_transfer.errors import KerasTransferError
from keras_transfer.litert import LiteRTModel, convert
from keras_transfer.tasks.base import BuildContext
from keras_transfer.testing.overwriting import nothing_is_overwritten
from keras_transfer.testing.promises import Broken, answers_of, no_network, require, require_light
from keras_transfer.testing.trial import Trial
from keras_transfer.testing.verb_checks import (
    decisions_fit,
    it_is_explained_or_refused,
    the_bundle_is_proven,
    the_plan_is_told,
)
from keras_transfer.workflow.train import preprocessing_for

SHUFFLES = 5
"""How often a task's outputs are dealt to the wrong images, to see that its metrics notice."""


def spec_is_light(trial: Trial) -> None:
    """Importing the spec imports neither TensorFlow nor Keras nor NumPy: ``--help`` lists tasks with it."""
    require_light(trial.entry.value, "import them inside the factory")


def options_round_trip(trial: Trial) -> None:
    """Options pass their own checks, have a help text each, and survive JSON: ``run.json`` keeps them."""
    options = trial.options
    option_tools.check(options)
    silent = [info.flag for info in option_tools.option_infos(options) if not info.help]
    require(
        not silent, f"{', '.join(silent)} have no help text: make them with keras_transfer.options.option."
    )
    kept = json.loads(json.dumps(option_tools.to_dict(options), allow_nan=False))
    again = option_tools.from_dict(trial.spec.options, kept)
    require(again == options, f"the options {options} came back from JSON as {again}.")


def data_are_read_alike(trial: Trial) -> None:
    """The same data and seed give the same table, with images to learn from."""
    first, second = (trial.task().load_data(trial.source, trial.settings().data, 0) for _ in range(2))
    require(first.csv_text() == second.csv_text(), "load_data gave two tables for the same data and seed.")
    require(len(first.indices("train")), "load_data left no image in the split 'train'.")


def builds_offline(trial: Trial) -> None:
    """``build`` reaches for no network and gives a model from pixels ``(B, H, W, 3)`` to finite numbers.

    Of a task that generates: from what ``draw_inputs`` draws, twice alike for one table.
    """
    settings = trial.settings(strategy="probe", weights="none")
    with no_network():
        backbone = None
        if trial.spec.needs_backbone and trial.task().takes_backbone():
            backbone = load_backbone(
                settings.model.backbone, weights="none", image_size=settings.model.image_size
            )
        size = (settings.model.image_size or 224,) * 2 if backbone is None else backbone.input_shape[1:3]
        preprocessing = preprocessing_for(settings.model, size)
        context = BuildContext(
            settings=settings, preprocessing=preprocessing, task=trial.name, backbone=backbone
        )
        task = trial.task()
        model = task.build(trial.table, context)
    shape = tuple(model.inputs[0].shape)
    given = np.full((1, *size, 3), 127.0, np.float32)
    if trial.spec.generates:
        given = task.draw_inputs(trial.table.take([0]))
        again = task.draw_inputs(trial.table.take([0]))
        require(np.array_equal(given, again), "draw_inputs gave two inputs for the same table.")
    require(
        len(model.inputs) == 1 and shape == (None, *given.shape[1:]),
        f"the model takes {[tuple(one.shape) for one in model.inputs]}; one input {(None, *given.shape[1:])} is "
        "expected.",
    )
    answer = np.asarray(model([given], training=False))
    require(np.isfinite(answer).all(), "the untrained model's output is not finite.")


def training_is_finite(trial: Trial) -> None:
    """A short training ends with finite weights and a finite history."""
    weights = trial.trained[1].get_weights()
    require(
        weights and all(np.isfinite(weight).all() for weight in weights), "a trained weight is not finite."
    )
    path = trial.run.path / "history.csv"
    words = [word for line in path.read_text().splitlines()[1:] for word in line.split(",")]
    wrong = [word for word in words if word in ("nan", "inf", "-inf")]
    require(not wrong, f"history.csv holds {', '.join(sorted(set(wrong)))}.")


def frozen_weights_stay(trial: Trial) -> None:
    """With ``--strategy probe`` the backbone's weights and statistics are bit-identical afterwards."""
    if not (trial.spec.needs_backbone and trial.task().takes_backbone()):
        return
    model = trial.settings().model
    before = load_backbone(model.backbone, weights=model.weights, image_size=model.image_size)
    after = {layer.name: layer for layer in leaf_layers(trial.probe.load_model())}
    shared = [layer for layer in leaf_layers(before) if layer.get_weights() and layer.name in after]
    require(shared, "no layer of the trained model has the name of a layer of the backbone it was built on.")
    for layer in shared:
        pairs = zip(layer.get_weights(), after[layer.name].get_weights(), strict=True)
        require(
            all(np.array_equal(a, b) for a, b in pairs),
            f"--strategy probe changed the layer {layer.name!r} of the backbone, which it freezes.",
        )


def metrics_are_as_declared(trial: Trial) -> None:
    """``evaluate`` gives every metric of the spec, and the main one gets worse when the answers are mixed up.

    Of a task that generates: real images score better than the same with mixed-up pixels.
    """
    spec = trial.spec
    ways = set(spec.metrics.values())
    require(ways <= {"higher", "lower"}, f"the spec's metrics are {ways}; 'higher' or 'lower' is better.")
    require(
        spec.main_metric in spec.metrics,
        f"the main metric {spec.main_metric!r} is not among the spec's metrics.",
    )
    measured = trial.trained[0].evaluate(trial.outputs, trial.measured)
    missing = [name for name in spec.metrics if name not in measured]
    require(not missing, f"evaluate gave no {', '.join(missing)}, which the spec declares.")
    json.dumps(measured, allow_nan=False)
    value = measured[spec.main_metric]
    require(value is not None and math.isfinite(value), f"{spec.main_metric} is {value} on the sample.")
    rng = np.random.default_rng(0)
    if spec.generates:
        _real_is_better(trial, rng)
        return
    mixed = []
    for _ in range(SHUFFLES):
        outputs = trial.outputs[rng.permutation(len(trial.outputs))]
        mixed.append(trial.task_again().evaluate(outputs, trial.measured)[spec.main_metric])
    typical = float(np.mean(mixed))
    worse = typical < value if spec.metrics[spec.main_metric] == "higher" else typical > value
    require(
        worse,
        f"{spec.main_metric} ({spec.metrics[spec.main_metric]} is better) is {value:.4g}, and {typical:.4g} when the "
        "answers are dealt to the wrong images: the direction is wrong, nothing was learned, or the answers do not "
        "matter.",
    )


def _real_is_better(trial: Trial, rng: np.random.Generator) -> None:
    """Of images that are made it does not matter which is whose: real ones must beat those with mixed-up pixels."""
    name, way = trial.spec.main_metric, trial.spec.metrics[trial.spec.main_metric]
    channels = trial.outputs.shape[-1]
    images = np.concatenate(list(input_batches(trial.measured, trial.preprocessing)))[..., :channels]
    mixed = rng.permuted(images.reshape(len(images), -1), axis=1).reshape(images.shape)
    real, noise = (
        trial.task_again().evaluate(given.astype(np.float32), trial.measured)[name]
        for given in (images, mixed)
    )
    require(
        noise < real if way == "higher" else noise > real,
        f"{name} ({way} is better) is {real:.4g} for the real images themselves, and {noise:.4g} with their "
        "pixels mixed up.",
    )


def same_seed_same_result(trial: Trial) -> None:
    """Two trainings with one seed give the same weights and metrics, bit for bit (CPU)."""
    first, second = trial.run.load_model().get_weights(), trial.again.load_model().get_weights()
    same = len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    require(same, "two trainings with the same seed gave different weights.")
    require(trial.run.record.metrics == trial.again.record.metrics, "the same seed gave different metrics.")


def answers_alike_in_a_fresh_process(trial: Trial) -> None:
    """``model.keras`` loads with Keras alone, without the plugin, and answers as it did."""
    found = answers_of(trial.run.model_path, trial.pixels.astype(np.float32), trial.folder)
    difference = np.abs(found - _answers(trial)).max()
    require(difference <= 1e-5 * _scale(trial), f"in a fresh process the answers differ by {difference:.3g}.")


def tflite_agrees(trial: Trial) -> None:
    """The float32 TFLite file answers like the Keras model, within the spec's tolerance."""
    answers = LiteRTModel(convert(trial.trained[1])).predict(trial.pixels)
    difference = float(np.abs(answers - _answers(trial)).max())
    allowed = trial.spec.tolerance * _scale(trial)
    require(
        difference <= allowed,
        f"float32 TFLite differs from Keras by {difference:.3g}; the spec's tolerance allows {allowed:.3g}.",
    )


def bad_input_is_said(trial: Trial) -> None:
    """A missing folder, an empty one, and one of unreadable files are refused with this package's errors."""
    empty, broken = trial.folder / "empty", trial.folder / "broken"
    empty.mkdir(exist_ok=True)
    for name in ("a", "b"):
        (broken / name).mkdir(parents=True, exist_ok=True)
        for number in range(3):
            (broken / name / f"{number}.jpg").write_text("no image")
    for path in (trial.folder / "missing", empty, broken):
        try:
            trial.task().load_data(str(path), trial.settings().data, 0)
        except KerasTransferError as error:
            require(len(str(error)) > 20, f"the {path.name} folder was refused without a sentence: {error}")
        except Exception as error:
            raise Broken(
                f"load_data of the {path.name} folder raised {type(error).__name__}: {error}. Raise UsageError or "
                "DataError."
            ) from error
        else:
            raise Broken(f"load_data took the {path.name} folder and said nothing.")


def nothing_is_remembered(trial: Trial) -> None:
    """A task answers from its arguments, its options and its notes: a new one says the same as one that was used.

    ``score`` gives the numbers of ``evaluate``.
    """
    used, names = trial.trained[0], trial.run.record.contract.names
    first = used.evaluate(trial.outputs, trial.measured)
    new = trial.task_again()
    require(
        new.predict(trial.outputs, names, 3) == used.predict(trial.outputs, names, 3),
        "predict of a new task answers otherwise than of one that was asked before.",
    )
    require(
        json.dumps(new.evaluate(trial.outputs, trial.measured)) == json.dumps(first),
        "evaluate gave other metrics for the same outputs.",
    )
    name = trial.spec.main_metric
    found = new.score(trial.outputs, trial.measured, name)
    require(found == first[name], f"score says that {name} is {found}, and evaluate {first[name]}.")


def predictions_are_json(trial: Trial) -> None:
    """``predict`` gives one JSON-able dictionary per image."""
    names = trial.run.record.contract.names
    found = trial.trained[0].predict(trial.outputs, names, 3)
    require(
        len(found) == len(trial.outputs),
        f"predict gave {len(found)} answers for {len(trial.outputs)} images.",
    )
    for answer in found:
        require(isinstance(answer, dict) and answer, f"an answer is {answer!r}; a dictionary is expected.")
    try:
        json.dumps(found, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Broken(f"predict's answers are no JSON: {error}.") from error


def output_contract_fits(trial: Trial) -> None:
    """The declared shape and names are those of the model's output."""
    declared = trial.run.record.contract
    shape = tuple(trial.trained[1].outputs[0].shape)[1:]
    require(
        declared.shape == shape,
        f"output_contract says {declared.shape}; the model gives {shape}.",
    )
    require(
        len(declared.names) == shape[-1],
        f"output_contract names {len(declared.names)} outputs; the model gives {shape[-1]}.",
    )
    require(
        tuple(trial.outputs.shape[1:]) == shape,
        f"the model's outputs are {trial.outputs.shape[1:]}, not {shape}.",
    )


CHECKS: dict[str, Callable[[Trial], None]] = {
    check.__name__: check
    for check in (
        spec_is_light,
        options_round_trip,
        data_are_read_alike,
        bad_input_is_said,
        builds_offline,
        training_is_finite,
        the_plan_is_told,
        frozen_weights_stay,
        metrics_are_as_declared,
        nothing_is_remembered,
        same_seed_same_result,
        predictions_are_json,
        output_contract_fits,
        decisions_fit,
        answers_alike_in_a_fresh_process,
        tflite_agrees,
        the_bundle_is_proven,
        it_is_explained_or_refused,
        nothing_is_overwritten,
    )
}
"""By name, in the order they run: what is quick and what explains the others comes first."""


def _answers(trial: Trial) -> np.ndarray:
    return np.asarray(trial.trained[1]([trial.pixels.astype(np.float32)], training=False))


def _scale(trial: Trial) -> float:
    return max(1.0, float(np.abs(_answers(trial)).max()))
