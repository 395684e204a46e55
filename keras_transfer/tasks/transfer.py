"""The street every task with a backbone walks: features, probe, gradient training from it, guard.

A task brings its probe, its objective and its score; what is frozen, cached, compared and proven is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from keras_transfer.data import ImageTable
from keras_transfer.errors import UsageError
from keras_transfer.evaluation.plots import learning_curves
from keras_transfer.export.quantized_backbone import QuantizedBackbone
from keras_transfer.features import extract
from keras_transfer.features.pooling import feature_model
from keras_transfer.freeze_plan import FreezePlan
from keras_transfer.freezing import set_trainable
from keras_transfer.heads import has_logits, split_head
from keras_transfer.run import BACKBONE
from keras_transfer.tasks.base import BuildContext, TrainingContext
from keras_transfer.tasks.gradient import outputs_of, train_by_gradient
from keras_transfer.tasks.sense import require_objective, require_sense, warn_of_what_is_unused
from keras_transfer.tasks.verdict import Score, verdict_on
from keras_transfer.training.adapt import adapt_batchnorm
from keras_transfer.training.feeds import Boundary, balancing_weights
from keras_transfer.training.finetune import default_objective
from keras_transfer.training.guard import keep_better
from keras_transfer.training.objective import TrainingObjective
from keras_transfer.training.phases import Phase, plan_phases
from keras_transfer.training.probe import MANY
from keras_transfer.training.strategy import Strategy, choose

Probe = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], Mapping[str, Any]]
"""``(features (n, D), rows (n,) of the table, train, val)``: fits the head in place on the features of the images
``rows``; ``train`` and ``val`` are positions in ``rows``. Returns notes."""


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
        warn_of_what_is_unused(context.settings.gradient)
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
    if train > MANY:
        return {"images": 0, "why": f"to {train} training images, {val} more add nothing"}
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
            engine_precision=context.settings.fit.engine_precision,
            indices=rows,
            converted=deployed.content if deployed else None,
            given=context.settings.fit.features,
        )
    given = context.settings.fit.features
    context.say(
        f"Features: {len(rows)} images, "
        + (f"from {given} " if given else f"{features.cached} from the cache, {features.computed} computed ")
        + f"({features.engine}, {features.seconds:.1f} s)."
    )
    plan = FreezePlan.for_model(model, "none", backbone=context.backbone)
    snapshot = plan.snapshot_frozen(model)
    with context.run.stage("probe"):
        found = probe(features.values, rows, np.arange(learned), np.arange(learned, len(rows)))
    plan.check(model, snapshot)
    notes["features"] = {
        "engine": features.engine,
        "engine_precision": features.engine_precision,
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
            boundary=Boundary(fit.cache_boundary, fit.views, fit.engine, fit.engine_precision),
            needs_an_epoch=strategy.name == "scratch",
        )
        notes.update(done.notes)
        history.extend(done.history)

    def is_better(before: np.ndarray, after: np.ndarray) -> bool:
        notes["guard"], better = verdict_on(score, data, val, before, after, context)
        return better

    compared = strategy.name != "scratch" and len(val) > 0
    keep_better(
        model, train, (lambda: outputs_of(model, data, context, val)) if compared else None, is_better
    )
    learning_curves(history, context.run.plots / "learning_curves.png", objective.watched[-1])
    return history
