"""The street every task with a backbone walks: features, probe, gradient training from it, guard.

A task brings its probe, its objective and its score; what is frozen, cached, compared and proven is the same.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from keras_transfer.data import ImageTable
from keras_transfer.errors import DataError, UsageError
from keras_transfer.evaluation.plots import learning_curves
from keras_transfer.export.quantized_backbone import QuantizedBackbone
from keras_transfer.features import extract
from keras_transfer.features.pooling import feature_model
from keras_transfer.freeze_plan import FreezePlan
from keras_transfer.freezing import set_trainable
from keras_transfer.heads import has_logits, split_head
from keras_transfer.inference import KerasRunner, outputs
from keras_transfer.run import BACKBONE
from keras_transfer.settings import GradientSettings, TrainSettings
from keras_transfer.tasks.base import BuildContext, TrainingContext
from keras_transfer.tasks.specs import task_spec
from keras_transfer.training.adapt import adapt_batchnorm
from keras_transfer.training.feeds import Boundary, balancing_weights
from keras_transfer.training.finetune import default_objective, fine_tune, refuse_contradictions
from keras_transfer.training.guard import FEW, Verdict, deciding, keep_better, paired_verdict
from keras_transfer.training.objective import TrainingObjective
from keras_transfer.training.phases import Phase, plan_phases
from keras_transfer.training.plots import lr_finder_plot
from keras_transfer.training.strategy import Strategy, choose
from keras_transfer.training.temperature import tempered

log = logging.getLogger("keras_transfer")
BALANCED, LOG_LOSS = "balanced_accuracy", "log_loss"
NO_BOUNDARY = Boundary("off")
Probe = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], Mapping[str, Any]]
"""``(features (n, D), rows (n,) of the table, train, val)``: fits the head in place on the features of the images
``rows``; ``train`` and ``val`` are positions in ``rows``. Returns notes."""
Score = Callable[[np.ndarray, ImageTable, str], float | None]
"""``(outputs (n, ...), their n images, name of a metric)`` -> its value; None where these images do not tell it."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What a probe was given: ``features`` ``(n, D)`` of the images ``rows`` ``(n,)``, training images first."""

    features: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True, eq=False)
class Transferred:
    """What :func:`fit_transfer` did.

    Attributes:
        strategy: that was followed.
        notes: what was decided and why, JSON-able; a task adds its own.
        history: one dictionary of numbers per epoch of gradient training.
        seen: what the probe was given; None: there was no probe.
    """

    strategy: Strategy
    notes: dict[str, Any]
    history: list[dict[str, Any]] = field(default_factory=list)
    seen: Seen | None = None

    @property
    def probe_kept(self) -> bool:
        """Whether the probe is the result: nothing else was asked for, or the guard kept it."""
        return self.strategy.name == "probe" or self.notes.get("guard", {}).get("kept") == "probe"


@dataclass(frozen=True, eq=False)
class GradientTraining:
    """What :func:`train_by_gradient` did: ``notes`` for ``run.json``, and one dictionary per epoch."""

    notes: dict[str, Any]
    history: list[dict[str, Any]]


def fit_transfer(
    model: keras.Model,
    data: ImageTable,
    context: TrainingContext,
    *,
    probe: Probe,
    score: Score,
    objective: TrainingObjective | None = None,
) -> Transferred:
    """Fit the head by ``probe``, then, unless it is all that was asked for, train on from there.

    Args:
        model: as the task built it on ``context.backbone``. Whatever stands above the backbone's output is the head.
        probe: fits the head in closed form.
        score: how good outputs are, by the main metric of the task's spec: what the guard compares by.
        objective: what gradient training minimises; by default cross-entropy or squared error after the labels' kind.

    Raises:
        UsageError, DataError: settings or data that cannot be trained with; the message says which.
    """
    train, val = data.indices("train"), data.indices("val")
    strategy, phases = follow(model, data, context, objective)
    context.say(f"Strategy: {strategy.name} ({strategy.why}).")
    notes: dict[str, Any] = {
        "strategy": strategy.name,
        "why": strategy.why,
        "plan": phases[0].plan.to_dict() if phases[0].plan else None,
    }
    if strategy.name == "probe":
        _warn_of_what_is_unused(context.settings.gradient)
    set_trainable(model, "none")
    if strategy.batchnorm == "adapt":
        with context.run.stage("batch normalization"):
            report = adapt_batchnorm(model, data.take(train), preprocessing=context.preprocessing)
        notes["adapted"] = report.to_dict()
    seen = None
    if strategy.name != "scratch":
        seen = _fit_probe(model, data, context, probe, np.concatenate([train, val]), len(train), notes)
    history: list[dict[str, Any]] = []
    if strategy.name != "probe":
        history = _train_on(model, data, context, score, objective, strategy, phases, notes)
    return Transferred(strategy, notes, history, seen)


def follow(
    model: keras.Model,
    data: ImageTable,
    context: BuildContext,
    objective: TrainingObjective | None = None,
) -> tuple[Strategy, list[Phase]]:
    """The strategy and its phases that :func:`fit_transfer` follows; nothing is changed or computed.

    Raises:
        UsageError, DataError: settings or data that cannot be trained with; the message says which.
    """
    fit, gradient = context.settings.fit, context.settings.gradient
    strategy = choose(fit, gradient, data)
    require_sense(strategy, context.settings, data)
    require_objective(strategy, context.settings, data, objective)
    return strategy, plan_phases(model, strategy, fit, gradient, context.backbone)


def refit_on(data: ImageTable, context: TrainingContext) -> dict[str, Any] | None:
    """The images on which a head on frozen features is fitted once more, training and validation images, as a note.

    ``images`` is 0 where validation images are what the run is measured on; None where nothing is to be fitted again.
    Asked last, when the strength, the guard, the temperature and the thresholds are settled: of the refitted head the
    validation images tell nothing any more.
    """
    train, val = len(data.indices("train")), len(data.indices("val"))
    if not (context.settings.fit.refit and val):
        return None
    if not len(data.indices("test")):
        return {"images": 0, "why": "without test images, validation images are the measure"}
    context.say(
        f"The head is fitted again on the {train} training and the {val} validation images: what was measured on "
        "validation images is from before."
    )
    return {"images": train + val, "train": train, "val": val}


def refit_probe_kept(
    done: Transferred,
    context: TrainingContext,
    fit: Callable[..., None],
    model: keras.Model,
    data: ImageTable,
    **strength: float | None,
) -> None:
    """Fit a probe that was kept once more, on everything it has seen, and note it in ``done.notes``.

    Args:
        fit: the probe's function for it. strength: what was chosen, by name; None: there is nothing to fit with.
    """
    if not done.probe_kept or done.seen is None or None in strength.values():
        return
    note = refit_on(data, context)
    if note is None:
        return
    done.notes["refit"] = note
    rows = done.seen.rows
    if note["images"]:
        fit(
            model,
            done.seen.features,
            data.labels[rows],
            rows=np.arange(len(rows)),
            sample_weight=data.weights[rows],
            **strength,
        )


def require_sense(strategy: Strategy, settings: TrainSettings, data: ImageTable) -> None:
    """Refuse what contradicts itself, before anything is computed.

    Raises:
        UsageError, DataError: the message says what to do.
    """
    fit, held_out = settings.fit, len(data.indices("val"))
    if not len(data.indices("train")):
        raise DataError("No image is left in the training split. Lower --val-fraction and --test-fraction.")
    if settings.gradient.balance != "none" and data.kind != "classes":
        raise UsageError(
            f"--balance {settings.gradient.balance} is for single classes, not for {data.kind} labels."
        )
    if fit.deploy is not None and strategy.name != "probe":
        raise UsageError(
            f"--deploy {fit.deploy} fits the head on a frozen backbone: it goes with --strategy probe, not "
            f"{strategy.name}."
        )
    if fit.teacher is not None and strategy.name == "probe":
        raise UsageError("A teacher trains the network, not only its head: pass --strategy finetune or full.")
    if strategy.name in ("finetune", "full") and fit.guard and not held_out:
        raise DataError(
            "The validation split is empty, so nothing tells whether fine-tuning is better than the probe. Raise "
            "--val-fraction, or pass --no-guard to keep whatever the last epochs give."
        )


def require_objective(
    strategy: Strategy,
    settings: TrainSettings,
    data: ImageTable,
    objective: TrainingObjective | None = None,
) -> None:
    """The same for what gradient training minimises, watches and augments; by default for the labels' kind.

    Raises:
        UsageError: the message says what to do.
    """
    if strategy.name != "probe":
        fit = settings.fit
        refuse_contradictions(
            settings.gradient,
            data.kind,
            cache=fit.cache_boundary,
            teacher=fit.teacher is not None,
            objective=objective,
        )


def _warn_of_what_is_unused(gradient: GradientSettings) -> None:
    asked = {
        "--augment": gradient.augment != "none",
        "--focal": gradient.focal is not None,
        "--label-smoothing": gradient.label_smoothing > 0,
        "--learning-rate": gradient.learning_rate is not None,
        "--find-lr": gradient.find_lr,
        "--layer-decay": gradient.layer_decay != 1,
        "--accumulate": gradient.accumulate != 1,
        "--ema": bool(gradient.ema),
        "--precision": gradient.precision != "float32",
    }
    unused = [name for name, given in asked.items() if given]
    if unused:
        log.warning(
            "%s: for training by gradients. Only the head is fitted here, on features of the images as they are. "
            "--strategy finetune trains more.",
            ", ".join(unused),
        )


def probe_weights(data: ImageTable, context: TrainingContext) -> np.ndarray:
    """float64 ``(N,)``: the table's weights; with ``--balance`` (either kind) each class counts the same."""
    balance = balancing_weights(data, context.settings.gradient.balance)
    return data.weights if balance is None else data.weights * balance


def _fit_probe(
    model: keras.Model,
    data: ImageTable,
    context: TrainingContext,
    probe: Probe,
    rows: np.ndarray,
    learned: int,
    notes: dict[str, Any],
) -> Seen:
    extractor = _extractor(model, context.backbone)
    deployed = None
    if context.settings.fit.deploy is not None:
        with context.run.stage("int8 backbone"):
            deployed = QuantizedBackbone.make(extractor, data, context.preprocessing, context.settings.seed)
        (context.run.path / BACKBONE).write_bytes(deployed.content)
        notes["deploy"] = deployed.to_dict()
        context.say(
            f"The head is fitted on the features of the int8 backbone ({len(deployed.content) / 1e6:.1f} MB)."
        )
    with context.run.stage("extraction"):
        features = extract(
            data,
            extractor,
            preprocessing=context.preprocessing,
            engine=context.settings.fit.engine,
            indices=rows,
            converted=deployed.content if deployed else None,
        )
    context.say(
        f"Features: {len(rows)} images, {features.cached} from the cache, {features.computed} computed "
        f"({features.engine}, {features.seconds:.1f} s)."
    )
    plan = FreezePlan.for_model(model, "none", backbone=context.backbone)
    snapshot = plan.snapshot_frozen(model)
    with context.run.stage("probe"):
        found = probe(features.values, rows, np.arange(learned), np.arange(learned, len(rows)))
    plan.check(model, snapshot)
    notes["features"] = {
        "engine": features.engine,
        "computed": features.computed,
        "cached": features.cached,
    }
    notes.update(found)
    return Seen(features.values, rows)


def _extractor(model: keras.Model, backbone: keras.Model | None) -> keras.Model:
    """Pixels to the features ``(B, D)`` that the head begins with; of a head of the task's own, the averaged ones."""
    if has_logits(model):
        return split_head(model)[0]
    if backbone is None:
        raise UsageError(f"The model {model.name!r} has no backbone below its head: nothing gives features.")
    return feature_model(backbone)


def train_by_gradient(
    model: keras.Model,
    data: ImageTable,
    context: TrainingContext,
    phases: list[Phase],
    objective: TrainingObjective,
    settings: GradientSettings,
    *,
    boundary: Boundary = NO_BOUNDARY,
    needs_an_epoch: bool = True,
) -> GradientTraining:
    """Train what the phases say; pictures go into the run folder. Resumes from its ``run.state``.

    Args:
        model: the loss is computed on its layer ``logits``, or, where it has none, on its output.
        phases: see :func:`keras_transfer.training.phases.plan_phases`.
        objective: :class:`keras_transfer.training.objective.Objective`, or one that a task brings.
        settings: with the learning rate to be used.
        boundary: whether what lies below the trained layers is computed once.
        needs_an_epoch: the weights before the first epoch are worth nothing.

    Raises:
        UsageError: see :func:`fine_tune`.
        DataError: the same; and a loss that was no number before one epoch was done, where one is needed.
    """
    with context.run.stage("training"):
        result = fine_tune(
            model,
            data,
            context.preprocessing,
            phases=phases,
            objective=objective,
            teacher=context.teacher,
            boundary=boundary,
            keep_start=False,  # who compares with the start does it on what counts
            seed=context.settings.seed,
            state=context.run.state,
            settings=settings,
        )
    if needs_an_epoch and not result.best_epoch:
        raise DataError("The loss became NaN or infinite before one epoch was done. Lower --learning-rate.")
    for line in result.boundaries:
        context.say(line)
    notes: dict[str, Any] = {}
    if settings.augment != "none":
        augmenter = objective.augmenter(settings, context.preprocessing, context.settings.seed)
        objective.draw_augmentation(
            data, context.preprocessing, augmenter, context.run.plots / "augmentation.png"
        )
        notes["augmentation"] = augmenter.to_dict()
    if result.finding is not None:
        lr_finder_plot(result.finding, context.run.plots / "lr_finder.png")
    notes["gradient"] = {
        "learning_rate": result.learning_rate,
        "optimizer": settings.optimizer,
        "phases": [
            {"epoch": phase.start, **(phase.plan.to_dict() if phase.plan else {})} for phase in phases
        ],
        "trained_layers": [layer.name for layer in model.layers if layer.trainable and layer.weights],
        "best_epoch": result.best_epoch,
        "epochs": len(result.history) - 1,
        "resumed_at": result.resumed_at,
        "boundary": result.boundaries,
        "diverged": result.diverged,
    }
    return GradientTraining(notes, result.history)


def _train_on(
    model: keras.Model,
    data: ImageTable,
    context: TrainingContext,
    score: Score,
    objective: TrainingObjective | None,
    strategy: Strategy,
    phases: list[Phase],
    notes: dict[str, Any],
) -> list[dict[str, Any]]:
    """Train on from the probe, and keep that only where it is better; gives the history."""
    fit, val = context.settings.fit, data.indices("val")
    settings = replace(context.settings.gradient, learning_rate=strategy.learning_rate)
    if objective is None:
        objective = default_objective(model, data, settings)
        if context.teacher is not None:
            objective = replace(objective, temperature=fit.temperature, mix=fit.teacher_weight)
    minimised = objective
    history: list[dict[str, Any]] = []

    def train() -> None:
        done = train_by_gradient(
            model,
            data,
            context,
            phases,
            minimised,
            settings,
            boundary=Boundary(fit.cache_boundary, fit.views, fit.engine),
            needs_an_epoch=strategy.name == "scratch",
        )
        notes.update(done.notes)
        history.extend(done.history)

    def is_better(before: np.ndarray, after: np.ndarray) -> bool:
        notes["guard"], better = _verdict(score, data, val, before, after, context)
        return better

    compared = strategy.name != "scratch" and len(val) > 0
    keep_better(
        model, train, (lambda: outputs_of(model, data, context, val)) if compared else None, is_better
    )
    learning_curves(history, context.run.plots / "learning_curves.png", objective.watched[-1])
    return history


def _verdict(
    score: Score,
    data: ImageTable,
    val: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    context: TrainingContext,
) -> tuple[dict[str, Any], bool]:
    """The note on what the guard decided, and whether the fine-tuned network is kept."""
    guard = context.settings.fit.guard
    verdicts = _judge(score, data, val, before, after, context)
    decider = deciding(verdicts)
    # A network that answers one class whatever it sees would be right on all of them.
    one_class = data.kind == "classes" and len(np.unique(data.labels[val])) < 2
    kept = "fine-tuned" if (decider.keeps and not one_class) or not guard else "probe"
    for verdict in verdicts:
        context.say(f"{'Guard' if guard else 'No guard'}: {verdict}.")
    if one_class and guard:
        context.say("Guard: the validation images are of one class, which cannot tell classifiers apart.")
    elif decider.better and kept == "probe":
        context.say(f"Guard: fewer than {FEW} validation images, so only a gain beyond chance counts.")
    context.say(f"The {kept} model is the result.")
    note = {
        **verdicts[0].to_dict(),
        "verdicts": [verdict.to_dict() for verdict in verdicts],
        "decided_by": decider.to_dict(),
        "kept": kept,
        "guard": guard,
    }
    return note, kept == "fine-tuned"


def _judge(
    score: Score,
    data: ImageTable,
    val: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    context: TrainingContext,
) -> list[Verdict]:
    """On the task's main metric; where that leaves it to chance, on the log loss, too.

    A few hundred images tell accuracies apart by two points or more; a log loss hears every image's probability. Each
    model gets its best temperature on these images first: label smoothing and augmentation make a network timid, and
    calibration, which comes later, mends that.
    """
    spec = task_spec(context.task)
    # Who asked for balanced classes does not want accuracy to undo it.
    balanced = context.settings.gradient.balance != "none" and BALANCED in spec.metrics

    def verdict(metric: str, before: np.ndarray, after: np.ndarray) -> Verdict:
        def of_rows(outputs: np.ndarray, rows: np.ndarray) -> float:
            value = score(outputs, data.take(val[rows]), metric)
            return math.nan if value is None else float(value)  # None: no image drawn has any label

        higher = spec.metrics[metric] == "higher"
        return paired_verdict(
            of_rows, before, after, metric=metric, higher=higher, seed=context.settings.seed
        )

    verdicts = [verdict(BALANCED if balanced else spec.main_metric, before, after)]
    if not verdicts[0].certain and not balanced and LOG_LOSS in spec.metrics and data.kind == "classes":
        labels = data.labels[val]
        verdicts.append(verdict(LOG_LOSS, tempered(before, labels), tempered(after, labels)))
    return verdicts


def outputs_of(
    model: keras.Model, data: ImageTable, context: TrainingContext, rows: np.ndarray
) -> np.ndarray:
    """A model's outputs ``(n, ...)`` for rows of the data, with the context's preprocessing."""
    given = outputs(KerasRunner(model).predict, data, context.preprocessing, "Comparing", indices=rows)
    return np.concatenate(list(given))
