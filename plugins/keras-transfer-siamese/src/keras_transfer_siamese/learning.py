"""From frozen features to the best head there is, and from there, where it is asked for, on by gradient.

Every step has to beat the one before it on the validation classes: raw features (the baseline), heads in closed form,
a trained head, a trained network.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from keras_transfer.backbones.cost import macs
from keras_transfer.data import ImageTable
from keras_transfer.errors import DataError
from keras_transfer.features import extract
from keras_transfer.freezing import set_trainable
from keras_transfer.settings import GradientSettings
from keras_transfer.tasks.base import Job, TrainingPlan
from keras_transfer.tasks.planning import gradient_macs, told
from keras_transfer.tasks.transfer import outputs_of, require_sense, train_by_gradient
from keras_transfer.training.feeds import Boundary
from keras_transfer.training.guard import Verdict
from keras_transfer.training.phases import plan_phases
from keras_transfer.training.strategy import Strategy, choose
from keras_transfer_siamese.comparison import Comparison
from keras_transfer_siamese.episodes import interval
from keras_transfer_siamese.head_training import train_head
from keras_transfer_siamese.heads import ClosedForm, closed_forms
from keras_transfer_siamese.metrics import OneShot
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

log = logging.getLogger("keras_transfer")
SEED = 0
"""Of the episodes: whatever was trained is measured on the same ones."""
DEFAULT_FORM = "power+centred"
"""What is taken of ``--head auto`` where there are no validation classes to choose on."""
PIXELS = 28
"""Side to which grey images are shrunk for the baseline of networks from scratch."""


@dataclass(frozen=True, eq=False)
class Learned:
    """Pixels to embeddings ``(B, D)``, and how these are compared."""

    model: keras.Model
    comparison: Comparison


@dataclass(frozen=True, eq=False)
class _Head:
    form: ClosedForm
    comparison: Comparison

    def embed(self, features: np.ndarray) -> np.ndarray:
        return self.form.embed(features, unit=self.comparison.kind != "weighted_l1")


class Learner:
    """One training: its data, options and job.

    Args:
        options: of the task.
        data: by class.
        job: of the core.
    """

    def __init__(self, options: Any, data: ImageTable, job: Job) -> None:
        self.options, self.data, self.job = options, data, job
        self.rows = {split: data.indices(split) for split in ("train", "val", "test")}
        self.trial: OneShot | None = None
        self.head_history: list[dict[str, Any]] = []
        kind = options.comparison
        self.kind = "cosine" if kind in ("auto", "weighted_l1") else kind
        self.objective = SiameseObjective(
            options.loss,
            options.images_per_class,
            options.margin,
            options.scale,
            training_columns(data),
        )

    def learn(self, model: keras.Model) -> Learned:
        """Follow the strategy, and note what was done.

        Args:
            model: the extractor (pixels to features ``(B, D)``), or a network from scratch (pixels to embeddings).
        """
        job, settings = self.job, self.job.settings
        strategy = self._strategy()
        job.say(f"Strategy: {strategy.name} ({strategy.why}).")
        if len(self.rows["val"]):
            self.trial = OneShot.draw(self.data.labels[self.rows["val"]], self.options.episodes, SEED)
        job.notes.update(strategy=strategy.name, why=strategy.why, classes=self._classes())
        if strategy.name == "scratch":
            return self._from_scratch(model, strategy)
        set_trainable(model, "none")
        with job.run.stage("extraction"):
            found = extract(self.data, model, preprocessing=job.preprocessing, engine=settings.fit.engine)
        job.notes["features"] = {
            "engine": found.engine,
            "computed": found.computed,
            "cached": found.cached,
        }
        with job.run.stage("probe"):
            head = self._best_head(found.values)
        embedding = with_head(model, head.form.build, unit=head.comparison.kind != "weighted_l1")
        if strategy.name == "probe":
            job.history.extend(self.head_history)
            return Learned(embedding, head.comparison)
        return self._on_by_gradient(embedding, head.comparison, strategy)

    def _strategy(self) -> Strategy:
        settings = self.job.settings
        strategy = choose(settings.fit, settings.gradient, self.data)
        require_sense(strategy, settings, self.data)
        return strategy

    def plan(self, model: keras.Model) -> TrainingPlan:
        """What :meth:`learn` would do. Which head is best shows only then: the largest that may be is planned.

        What trying the heads costs is not estimated; beside the features it is little.
        """
        strategy, fit, gradient = self._strategy(), self.job.settings.fit, self.job.settings.gradient
        scratch, embedding = strategy.name == "scratch", model
        if not scratch:
            dense = keras.layers.Dense(self.options.embedding_dim, name=PROJECTION)
            projects = self.options.head not in ("raw", "centred", "power")
            embedding = with_head(
                model, dense if projects else lambda x: x, unit=self.objective.name != "bce"
            )
        network = training_network(embedding, self.objective, self.job.settings.seed)
        phases = plan_phases(network, strategy, fit, gradient)
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

    def _score(self, embeddings: np.ndarray, comparison: Comparison) -> tuple[float, float]:
        """One-shot accuracy, and to tell equals apart the area under the ROC, on the validation classes."""
        assert self.trial is not None
        return self.trial.score(embeddings, comparison)

    # Heads on frozen features

    def _best_head(self, features: np.ndarray) -> _Head:
        options, job, train, val = self.options, self.job, self.rows["train"], self.rows["val"]
        wanted = "auto" if options.head == "dense" else options.head
        forms = closed_forms(features[train], self.data.labels[train], options.embedding_dim, wanted)
        heads = [_Head(form, Comparison(self.kind)) for form in forms]
        self._note_baseline(features)
        if not len(val):
            names = [head.form.name for head in heads]
            best = heads[names.index(DEFAULT_FORM) if DEFAULT_FORM in names else 0]
            job.notes["head"] = {"kind": best.form.name, "chosen_on": "nothing: no validation classes"}
            job.say(f"Head: {best.form.name}; there are no validation classes to choose on.")
            return self._trained_head(features, best, heads) if options.head == "dense" else best
        scores = [self._score(head.embed(features[val]), head.comparison) for head in heads]
        best = heads[max(range(len(heads)), key=lambda place: scores[place])]
        job.notes["head"] = {
            "kind": best.form.name,
            "chosen_on": "validation",
            "trials": [
                {
                    "head": head.form.name,
                    "shrinkage": head.form.shrinkage,
                    "val_one_shot_accuracy": score[0],
                    "val_auc": score[1],
                }
                for head, score in zip(heads, scores, strict=True)
            ],
        }
        job.say(
            f"Best head in closed form: {best.form.name}, {max(scores)[0]:.1%} one-shot on validation classes."
        )
        if options.head == "dense" or (options.head == "auto" and self._can_train()):
            return self._trained_head(features, best, heads)
        return best

    def _can_train(self) -> bool:
        several, _ = by_count(self.data.labels, self.rows["train"])
        return len(several) > 1

    def _trained_head(self, features: np.ndarray, best: _Head, heads: Sequence[_Head]) -> _Head:
        """A Dense head from the best projection on; kept where it beats the best head in closed form."""
        job, val, labels = self.job, self.rows["val"], self.data.labels
        gradient, fit = job.settings.gradient, job.settings.fit
        projections = [head for head in heads if head.form.kernel is not None]
        if not projections:
            raise DataError(
                "--head dense starts from a projection, and no training class has two images. Add images."
            )
        start = projections[0]
        if len(val):
            start = max(projections, key=lambda head: self._score(head.embed(features[val]), head.comparison))
        size = self._batch_size(gradient)
        make = self.objective.order(self.data, size)

        def judge(form: ClosedForm, comparison: Comparison) -> float:
            accuracy, area = self._score(_Head(form, comparison).embed(features[val]), comparison)
            return accuracy + 1e-3 * area

        trained = train_head(
            features,
            labels,
            start.form,
            self.objective,
            lambda epoch: make(self.rows["train"], job.settings.seed, epoch),
            batch_size=size,
            epochs=self.options.head_epochs,
            judge=judge if len(val) else None,
            comparison=self.kind,
            learning_rate=gradient.learning_rate,
            weight_decay=gradient.weight_decay,
            seed=job.settings.seed,
        )
        self.head_history = trained.history
        head = _Head(trained.form, trained.comparison)
        job.notes["trained_head"] = {
            "loss": self.objective.name,
            "start": start.form.name,
            "best_epoch": trained.best_epoch,
            "epochs": len(trained.history) - 1,
        }
        if not len(val):
            return head
        verdict = self._compare(
            best.embed(features[val]), best.comparison, head.embed(features[val]), head.comparison
        )
        kept = head if verdict.better or (self.options.head == "dense" and not fit.guard) else best
        self._note_guard("head_guard", verdict, kept is head, best.form.name, "trained head")
        if kept is head:
            job.notes["head"]["kind"] = "dense"
        return kept

    def _note_baseline(self, features: np.ndarray, name: str = "raw") -> None:
        """What untrained features come to, by cosine: the floor that everything else stands on."""
        found: dict[str, Any] = {"embedding": name}
        comparison = Comparison()
        for split in ("val", "test"):
            rows = self.rows[split]
            try:
                trial = OneShot.draw(self.data.labels[rows], self.options.episodes, SEED)
            except DataError:  # no such split, or too few images in it
                continue
            embeddings = ClosedForm("raw").embed(features[rows])
            mean, half = interval(trial.accuracies(embeddings, comparison))
            found[split] = {"one_shot_accuracy": mean, "interval": half}
        self.job.notes["baseline"] = found
        told = [
            f"{values['one_shot_accuracy']:.1%} one-shot on {split} classes"
            for split, values in found.items()
            if split != "embedding"
        ]
        self.job.say(f"Baseline, {name}: {', '.join(told) or 'nothing to measure it on'}.")

    # Training by gradient

    def _batch_size(self, gradient: GradientSettings) -> int:
        return batch_size_for(
            self.data.labels[self.rows["train"]], gradient.batch_size, self.options.images_per_class
        )

    def _gradient_settings(self, strategy: Strategy) -> GradientSettings:
        gradient = self.job.settings.gradient
        monitor = (
            NEAREST if self.objective.name in PROXIES and gradient.monitor == "loss" else gradient.monitor
        )
        return replace(
            gradient,
            learning_rate=strategy.learning_rate,
            batch_size=self._batch_size(gradient),
            monitor=monitor,
        )

    def _train(self, network: keras.Model, strategy: Strategy) -> None:
        job = self.job
        phases = plan_phases(network, strategy, job.settings.fit, job.settings.gradient)
        set_trainable(network, "none")
        job.notes["plan"] = phases[0].plan.to_dict() if phases[0].plan else None
        fit = job.settings.fit
        train_by_gradient(
            network,
            self.data,
            job,
            phases,
            self.objective,
            self._gradient_settings(strategy),
            boundary=Boundary(fit.cache_boundary, fit.views, fit.engine)
            if strategy.name != "scratch"
            else Boundary("off"),
            needs_an_epoch=strategy.name == "scratch",
        )

    def _from_scratch(self, embedding: keras.Model, strategy: Strategy) -> Learned:
        self._note_baseline(self._grey_pixels(), f"grey pixels, {PIXELS}x{PIXELS}")
        network = training_network(embedding, self.objective, self.job.settings.seed)
        self._train(network, strategy)
        return Learned(embedding, trained_comparison(network, self.kind))

    def _grey_pixels(self) -> np.ndarray:
        """float32 ``(N, PIXELS^2)``: shrunk, grey, each image's mean taken off."""
        small = replace(self.job.preprocessing, size=(PIXELS, PIXELS))
        grey = [self.data.images.load(i, small).mean(axis=2).ravel() for i in range(len(self.data))]
        values = np.array(grey, np.float32)
        return values - values.mean(axis=1, keepdims=True)

    def _on_by_gradient(self, embedding: keras.Model, comparison: Comparison, strategy: Strategy) -> Learned:
        """Fine-tune from the best head on; what is not better on the validation classes is undone."""
        job, val, fit = self.job, self.rows["val"], self.job.settings.fit
        before = outputs_of(embedding, self.data, job, val) if len(val) else None
        start = [weight.numpy() for weight in embedding.weights]
        network = training_network(embedding, self.objective, job.settings.seed)
        self._train(network, strategy)
        trained = trained_comparison(network, self.kind)
        if before is None:
            return Learned(embedding, trained)
        verdict = self._compare(before, comparison, outputs_of(embedding, self.data, job, val), trained)
        better = verdict.better or not fit.guard
        self._note_guard("guard", verdict, better, "head on frozen features", "fine-tuned network")
        if better:
            return Learned(embedding, trained)
        for weight, value in zip(embedding.weights, start, strict=True):
            weight.assign(value)
        return Learned(embedding, comparison)

    # The guard

    def _compare(self, before: np.ndarray, old: Comparison, after: np.ndarray, new: Comparison) -> Verdict:
        """Two models on the same episodes of the validation classes."""
        assert self.trial is not None
        first, second = self.trial.accuracies(before, old), self.trial.accuracies(after, new)
        mean, half = interval(second - first)
        better = self._score(after, new) > self._score(before, old)
        return Verdict(
            "one_shot_accuracy",
            float(first.mean()),
            float(second.mean()),
            len(self.trial.labels),
            mean - half,
            mean + half,
            better,
        )

    def _note_guard(self, key: str, verdict: Verdict, better: bool, old: str, new: str) -> None:
        kept = new if better else old
        self.job.notes[key] = {**verdict.to_dict(), "kept": kept, "guard": self.job.settings.fit.guard}
        self.job.say(
            f"One-shot accuracy on the same {self.options.episodes} episodes of validation classes: {old} "
            f"{verdict.probe:.1%}, {new} {verdict.tuned:.1%} (difference {verdict.low:+.2%} to {verdict.high:+.2%}). "
            f"Kept: {kept}."
        )
