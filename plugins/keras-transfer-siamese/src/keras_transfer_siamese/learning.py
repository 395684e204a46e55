"""From frozen features to the best head there is, and from there, where it is asked for, on by gradient.

Every step has to beat the one before it on the validation classes: raw features (the baseline), heads in closed form,
a trained head, a trained network. Where classes are few, folds over all of them choose the head instead
(:mod:`keras_transfer_siamese.choosing`), and none is trained by gradient unless it is asked for.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from keras_transfer.backbones.cost import macs
from keras_transfer.data import ImageTable
from keras_transfer.features import extract
from keras_transfer.freezing import set_trainable
from keras_transfer.settings import GradientSettings
from keras_transfer.tasks.base import BuildContext, TrainingContext, TrainingPlan
from keras_transfer.tasks.gradient import outputs_of, train_by_gradient
from keras_transfer.tasks.planning import gradient_macs, told
from keras_transfer.tasks.sense import require_sense
from keras_transfer.training.feeds import Boundary
from keras_transfer.training.guard import keep_better
from keras_transfer.training.phases import Phase, plan_phases
from keras_transfer.training.strategy import Strategy, choose
from keras_transfer_siamese.comparison import Comparison
from keras_transfer_siamese.frozen import FrozenHeads, folded_splits
from keras_transfer_siamese.guarding import ClassGuard, note_baseline
from keras_transfer_siamese.networks import PROJECTION, with_head
from keras_transfer_siamese.objective import (
    NEAREST,
    PROXIES,
    SiameseObjective,
    trained_comparison,
    training_columns,
    training_network,
)
from keras_transfer_siamese.samplers import batch_size_for, by_count
from keras_transfer_siamese.verification import Roc

log = logging.getLogger("keras_transfer")
PIXELS = 28
"""Side to which grey images are shrunk for the baseline of networks from scratch."""


@dataclass(frozen=True, eq=False)
class Learned:
    """Pixels to embeddings ``(B, D)``, and how these are compared.

    Attributes:
        notes: what was tried and chosen, JSON-able. history: one dictionary per epoch.
        splits: whose classes it learned from.
        roc: of scores that tell a threshold; None: the validation classes are to tell it.
    """

    model: keras.Model
    comparison: Comparison
    notes: dict[str, Any]
    history: list[dict[str, Any]]
    splits: tuple[str, ...] = ("train",)
    roc: Roc | None = None


class Learning:
    """How one training goes: what its data, options and settings come to.

    Args:
        options: of the task.
        data: by class.
        context: of the core.
    """

    def __init__(self, options: Any, data: ImageTable, context: BuildContext) -> None:
        self.options, self.data, self.settings = options, data, context.settings
        self.backbone = context.backbone
        self.rows = {split: data.indices(split) for split in ("train", "val", "test")}
        kind = options.comparison
        self.kind = "cosine" if kind in ("auto", "weighted_l1") else kind
        self.objective = SiameseObjective(
            options.loss,
            options.images_per_class,
            options.margin,
            options.scale,
            training_columns(data),
        )

    def _strategy(self) -> Strategy:
        settings = self.settings
        strategy = choose(settings.fit, settings.gradient, self.data)
        require_sense(strategy, settings, self.data)
        return strategy

    def plan(self, model: keras.Model) -> TrainingPlan:
        """What :meth:`learn` would do. Which head is best shows only then: the largest that may be is planned.

        What trying the heads costs is not estimated; beside the features it is little.
        """
        strategy, gradient = self._strategy(), self.settings.gradient
        scratch, embedding = strategy.name == "scratch", model
        if not scratch:
            dense = keras.layers.Dense(self.options.embedding_dim, name=PROJECTION)
            projects = self.options.head not in ("raw", "centred", "power")
            embedding = with_head(
                model, dense if projects else lambda x: x, unit=self.objective.name != "bce"
            )
        network = training_network(embedding, self.objective, self.settings.seed)
        phases = self.phases(network, strategy)
        trains = strategy.name != "probe"
        if self.options.head == "dense" and not scratch:
            self._batch_size(gradient)
        return TrainingPlan(
            strategy=strategy.name,
            why=strategy.why,
            phases=told(phases),
            learning_rate=self._gradient_settings(strategy).learning_rate if trains else None,
            extraction=0.0 if scratch else macs(model) * len(self.data),
            fitting=0.0 if scratch else None,
            training=gradient_macs(network, phases, self.data, gradient.epochs) if trains else 0.0,
        )

    def _batch_size(self, gradient: GradientSettings) -> int:
        return batch_size_for(
            self.data.labels[self.rows["train"]], gradient.batch_size, self.options.images_per_class
        )

    def _gradient_settings(self, strategy: Strategy) -> GradientSettings:
        gradient = self.settings.gradient
        monitor = (
            NEAREST if self.objective.name in PROXIES and gradient.monitor == "loss" else gradient.monitor
        )
        return replace(
            gradient,
            learning_rate=strategy.learning_rate,
            batch_size=self._batch_size(gradient),
            monitor=monitor,
        )

    def phases(self, network: keras.Model, strategy: Strategy) -> list[Phase]:
        """What trains of a network, and from which epoch on."""
        return plan_phases(network, strategy, self.settings.fit, self.settings.gradient, self.backbone)


class Learner(Learning):
    """One training, carried out.

    Args:
        options, data: see :class:`Learning`.
        context: of the core.
    """

    def __init__(self, options: Any, data: ImageTable, context: TrainingContext) -> None:
        super().__init__(options, data, context)
        self.context = context
        self.notes: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.guard: ClassGuard | None = None

    def learn(self, model: keras.Model) -> Learned:
        """Follow the strategy, and note what was done.

        Args:
            model: the extractor (pixels to features ``(B, D)``), or a network from scratch (pixels to embeddings).
        """
        context, settings = self.context, self.context.settings
        strategy = self._strategy()
        context.say(f"Strategy: {strategy.name} ({strategy.why}).")
        folded = folded_splits(self.options, self.data, strategy)
        if len(self.rows["val"]) and "val" not in folded:
            self.guard = ClassGuard(
                self.data.labels[self.rows["val"]], self.options.episodes, context, self.notes
            )
        self.notes.update(strategy=strategy.name, why=strategy.why, classes=self._classes())
        if strategy.name == "scratch":
            return self._from_scratch(model, strategy)
        set_trainable(model, "none")
        with context.run.stage("extraction"):
            found = extract(
                self.data,
                model,
                preprocessing=context.preprocessing,
                engine=settings.fit.engine,
                engine_precision=settings.fit.engine_precision,
            )
        self.notes["features"] = {
            "engine": found.engine,
            "engine_precision": found.engine_precision,
            "computed": found.computed,
            "cached": found.cached,
        }
        with context.run.stage("probe"):
            heads = FrozenHeads(
                self.options,
                self.data,
                context,
                objective=self.objective,
                kind=self.kind,
                folded=folded,
                guard=self.guard,
                notes=self.notes,
            )
            head = heads.best(found.values)
        embedding = with_head(model, head.form.build, unit=head.comparison.kind != "weighted_l1")
        if strategy.name == "probe":
            self.history.extend(heads.history)
            return self._learned(embedding, head.comparison, head.splits, head.roc)
        return self._on_by_gradient(embedding, head.comparison, strategy)

    def _classes(self) -> dict[str, Any]:
        """How many classes each split has, and those that can only be told from others."""
        counts = {split: len(np.unique(self.data.labels[rows])) for split, rows in self.rows.items()}
        _, single = by_count(self.data.labels, self.rows["train"])
        if len(single):
            names = [self.data.classes[label] for label in self.data.labels[single[:5]]]
            log.warning(
                "%d training classes have one image (%s%s): it serves as a negative for the others, and never as a "
                "match.",
                len(single),
                ", ".join(names),
                " ..." if len(single) > 5 else "",
            )
        return {**counts, "with_one_training_image": len(single)}

    def _train(self, network: keras.Model, strategy: Strategy) -> None:
        context = self.context
        phases = self.phases(network, strategy)
        set_trainable(network, "none")
        self.notes["plan"] = phases[0].plan.to_dict() if phases[0].plan else None
        fit = context.settings.fit
        done = train_by_gradient(
            network,
            self.data,
            context,
            phases,
            self.objective,
            self._gradient_settings(strategy),
            boundary=Boundary(fit.cache_boundary, fit.views, fit.engine, fit.engine_precision)
            if strategy.name != "scratch"
            else Boundary("off"),
            needs_an_epoch=strategy.name == "scratch",
        )
        self.notes.update(done.notes)
        self.history.extend(done.history)

    def _from_scratch(self, embedding: keras.Model, strategy: Strategy) -> Learned:
        name = f"grey pixels, {PIXELS}x{PIXELS}"
        note_baseline(self.notes, self.context, self.data, self._grey_pixels(), self.options.episodes, name)
        network = training_network(embedding, self.objective, self.context.settings.seed)
        self._train(network, strategy)
        return self._learned(embedding, trained_comparison(network, self.kind))

    def _grey_pixels(self) -> np.ndarray:
        """float32 ``(N, PIXELS^2)``: shrunk, grey, each image's mean taken off."""
        small = replace(self.context.preprocessing, size=(PIXELS, PIXELS))
        grey = [self.data.images.load(i, small).mean(axis=2).ravel() for i in range(len(self.data))]
        values = np.array(grey, np.float32)
        return values - values.mean(axis=1, keepdims=True)

    def _on_by_gradient(self, embedding: keras.Model, comparison: Comparison, strategy: Strategy) -> Learned:
        """Fine-tune from the best head on; what is not better on the validation classes is undone."""
        context, val = self.context, self.rows["val"]
        network = training_network(embedding, self.objective, context.settings.seed)

        def is_better(before: np.ndarray, after: np.ndarray) -> bool:
            assert self.guard is not None
            verdict = self.guard.paired_verdict(
                before, comparison, after, trained_comparison(network, self.kind)
            )
            better = verdict.better or not context.settings.fit.guard
            self.guard.note("guard", verdict, better, "head on frozen features", "fine-tuned network")
            return better

        answers = (lambda: outputs_of(embedding, self.data, context, val)) if len(val) else None
        kept = keep_better(embedding, lambda: self._train(network, strategy), answers, is_better)
        return self._learned(embedding, trained_comparison(network, self.kind) if kept else comparison)

    def _learned(
        self,
        embedding: keras.Model,
        comparison: Comparison,
        splits: tuple[str, ...] = ("train",),
        roc: Roc | None = None,
    ) -> Learned:
        return Learned(embedding, comparison, self.notes, self.history, splits, roc)
