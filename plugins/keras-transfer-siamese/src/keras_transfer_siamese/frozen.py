"""The head on frozen features: in closed form, or from there on by gradient; chosen by folds where classes are few."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_transfer.data import ImageTable
from keras_transfer.errors import DataError
from keras_transfer.tasks.base import TrainingContext
from keras_transfer.training.strategy import Strategy
from keras_transfer_siamese.choosing import (
    FEW_CLASSES,
    FEWEST,
    can_fold,
    choose_by_folds,
    few_classes,
)
from keras_transfer_siamese.comparison import Comparison
from keras_transfer_siamese.guarding import ClassGuard, note_baseline
from keras_transfer_siamese.head_training import train_head
from keras_transfer_siamese.heads import ClosedForm, closed_forms
from keras_transfer_siamese.objective import SiameseObjective
from keras_transfer_siamese.samplers import batch_size_for, by_count
from keras_transfer_siamese.verification import Roc

DEFAULT_FORM = "power+centred"
"""What is taken of ``--head auto`` where there are no classes to choose on."""


@dataclass(frozen=True, eq=False)
class Head:
    """A head and its comparison.

    Attributes:
        splits: whose classes it learned from.
        roc: of scores in the folds that chose it; None: no folds did.
    """

    form: ClosedForm
    comparison: Comparison
    splits: tuple[str, ...] = ("train",)
    roc: Roc | None = None

    def embed(self, features: np.ndarray) -> np.ndarray:
        """Features ``(N, D)`` to embeddings ``(N, d)``."""
        return self.form.embed(features, unit=self.comparison.kind != "weighted_l1")


class FrozenHeads:
    """The heads of one training.

    Args:
        options: of the task.
        data: by class.
        context: of the core.
        objective: of a head that is trained by gradient.
        kind: of the comparison.
        folded: see :func:`folded_splits`.
        guard: the judge on validation classes; None: there are none, or the head learns from them.
        notes: what is tried and chosen is noted here.
    """

    def __init__(
        self,
        options: Any,
        data: ImageTable,
        context: TrainingContext,
        *,
        objective: SiameseObjective,
        kind: str,
        folded: tuple[str, ...],
        guard: ClassGuard | None,
        notes: dict[str, Any],
    ) -> None:
        self.options, self.data, self.context = options, data, context
        self.objective, self.kind, self.folded, self.guard = objective, kind, folded, guard
        self.notes = notes
        self.train, self.val = data.indices("train"), data.indices("val")
        self.history: list[dict[str, Any]] = []
        """Epochs of the head that was trained by gradient."""

    def best(self, features: np.ndarray) -> Head:
        """The best head for features ``(N, D)`` of all images, as far as the options leave a choice; noted and said."""
        note_baseline(self.notes, self.context, self.data, features, self.options.episodes)
        return self._by_folds(features) if self.folded else self._by_validation(features)

    def _by_folds(self, features: np.ndarray) -> Head:
        """The head that was best on classes held out in turn, learned from all of them."""
        context, rows, dim = self.context, rows_of(self.data, self.folded), self.options.embedding_dim
        x, labels = features[rows], self.data.labels[rows]
        choice = choose_by_folds(x, labels, dim, self.kind, context.settings.seed)
        form = choice.fit(x, labels, dim)
        self.notes["head"] = {
            "kind": form.name,
            "shrinkage": form.shrinkage,
            "chosen_on": "cross-validation",
            "classes": choice.classes,
            "folds": choice.folds,
            "learned_from": list(self.folded),
            "trials": [trial.to_dict() for trial in choice.trials],
        }
        context.say(
            f"Head: {choice}. It is learned from all {choice.classes} classes. With fewer than {FEW_CLASSES} none is "
            "trained by gradient; --head dense trains one."
        )
        return Head(form, Comparison(self.kind), self.folded, choice.roc)

    def _by_validation(self, features: np.ndarray) -> Head:
        options, context, train, val = self.options, self.context, self.train, self.val
        wanted = "auto" if options.head == "dense" else options.head
        forms = closed_forms(features[train], self.data.labels[train], options.embedding_dim, wanted)
        heads = [Head(form, Comparison(self.kind)) for form in forms]
        few = _few(options, self.data)
        if few or self.guard is None:
            names = [head.form.name for head in heads]
            best = heads[names.index(DEFAULT_FORM) if DEFAULT_FORM in names else 0]
            why = f"fewer than {FEWEST} classes with two images" if few else "no validation classes"
            self.notes["head"] = {"kind": best.form.name, "chosen_on": f"nothing: {why}"}
            context.say(f"Head: {best.form.name}; there are {why} to choose on.")
            return self._trained_head(features, best, heads) if options.head == "dense" else best
        guard = self.guard
        scores = [guard.score(head.embed(features[val]), head.comparison) for head in heads]
        best = heads[max(range(len(heads)), key=lambda place: scores[place])]
        self.notes["head"] = {
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
        context.say(
            f"Best head in closed form: {best.form.name}, {max(scores)[0]:.1%} one-shot on validation classes."
        )
        if options.head == "dense" or (
            options.head == "auto" and len(by_count(self.data.labels, train)[0]) > 1
        ):
            return self._trained_head(features, best, heads)
        return best

    def _trained_head(self, features: np.ndarray, best: Head, heads: Sequence[Head]) -> Head:
        """A Dense head from the best projection on; kept where it beats the best head in closed form."""
        context, val, guard, labels = self.context, self.val, self.guard, self.data.labels
        gradient, fit = context.settings.gradient, context.settings.fit
        projections = [head for head in heads if head.form.kernel is not None]
        if not projections:
            raise DataError(
                "--head dense starts from a projection, and no training class has two images. Add images."
            )

        def score(head: Head) -> tuple[float, float]:
            assert guard is not None
            return guard.score(head.embed(features[val]), head.comparison)

        def judge(form: ClosedForm, comparison: Comparison) -> float:
            accuracy, area = score(Head(form, comparison))
            return accuracy + 1e-3 * area

        start = projections[0] if guard is None else max(projections, key=score)
        size = batch_size_for(labels[self.train], gradient.batch_size, self.options.images_per_class)
        make = self.objective.order(self.data, size)

        trained = train_head(
            features,
            labels,
            start.form,
            self.objective,
            lambda epoch: make(self.train, context.settings.seed, epoch),
            batch_size=size,
            epochs=self.options.head_epochs,
            judge=None if guard is None else judge,
            comparison=self.kind,
            learning_rate=gradient.learning_rate,
            weight_decay=gradient.weight_decay,
            seed=context.settings.seed,
        )
        self.history = trained.history
        head = Head(trained.form, trained.comparison)
        self.notes["trained_head"] = {
            "loss": self.objective.name,
            "start": start.form.name,
            "best_epoch": trained.best_epoch,
            "epochs": len(trained.history) - 1,
        }
        if guard is None:
            return head
        verdict = guard.paired_verdict(
            best.embed(features[val]), best.comparison, head.embed(features[val]), head.comparison
        )
        kept = head if verdict.better or (self.options.head == "dense" and not fit.guard) else best
        guard.note("head_guard", verdict, kept is head, best.form.name, "trained head")
        if kept is head:
            self.notes["head"]["kind"] = "dense"
        return kept


def folded_splits(options: Any, data: ImageTable, strategy: Strategy) -> tuple[str, ...]:
    """The splits whose classes are held out in turn to choose a head by; none: folds do not choose.

    Validation classes are among them unless more is measured on them: a fine-tuning, or, without test classes, the run.
    """
    if strategy.name == "scratch" or not _few(options, data):
        return ()
    free = strategy.name == "probe" and len(data.indices("val")) and len(data.indices("test"))
    splits = ("train", "val") if free else ("train",)
    return splits if can_fold(data.labels[rows_of(data, splits)]) else ()


def rows_of(data: ImageTable, splits: Sequence[str]) -> np.ndarray:
    """Rows of several splits, in the table's order."""
    return np.sort(np.concatenate([data.indices(split) for split in splits]))


def _few(options: Any, data: ImageTable) -> bool:
    """Whether ``auto`` has to do with few classes that are not those it will be asked about."""
    labels = data.labels[rows_of(data, ("train", "val"))]
    return options.head == "auto" and not options.allow_seen_classes and few_classes(labels)
