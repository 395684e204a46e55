"""What was trained is judged on the same one-shot episodes of classes that were held out, and raw features with it."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_transfer.data import ImageTable
from keras_transfer.errors import DataError
from keras_transfer.tasks.base import TrainingContext
from keras_transfer.training.guard import Verdict
from keras_transfer_siamese.comparison import Comparison
from keras_transfer_siamese.episodes import interval
from keras_transfer_siamese.heads import ClosedForm
from keras_transfer_siamese.metrics import OneShot

SEED = 0
"""Of the episodes: whatever was trained is measured on the same ones."""


class ClassGuard:
    """Two models on the same episodes of the validation classes.

    Args:
        labels: int ``(N,)`` of the validation images.
        episodes: how many.
        context: of the core. notes: what was compared and kept is noted here.

    Raises:
        DataError: not even two classes have two images.
    """

    def __init__(
        self, labels: np.ndarray, episodes: int, context: TrainingContext, notes: dict[str, Any]
    ) -> None:
        self.episodes, self.context, self.notes = episodes, context, notes
        self.trial = OneShot.draw(labels, episodes, SEED)

    def score(self, embeddings: np.ndarray, comparison: Comparison) -> tuple[float, float]:
        """One-shot accuracy, and to tell equals apart the area under the ROC."""
        return self.trial.score(embeddings, comparison)

    def paired_verdict(
        self, before: np.ndarray, old: Comparison, after: np.ndarray, new: Comparison
    ) -> Verdict:
        """The embeddings ``(N, D)`` of two models, each with its comparison."""
        first, second = self.trial.accuracies(before, old), self.trial.accuracies(after, new)
        mean, half = interval(second - first)
        better = self.score(after, new) > self.score(before, old)
        return Verdict(
            "one_shot_accuracy",
            float(first.mean()),
            float(second.mean()),
            len(self.trial.labels),
            mean - half,
            mean + half,
            better,
        )

    def note(self, key: str, verdict: Verdict, better: bool, old: str, new: str) -> None:
        """Record and say which of the two was kept."""
        kept = new if better else old
        self.notes[key] = {
            **verdict.to_dict(),
            "kept": kept,
            "guard": self.context.settings.fit.guard,
        }
        self.context.say(
            f"One-shot accuracy on the same {self.episodes} episodes of validation classes: {old} "
            f"{verdict.probe:.1%}, {new} {verdict.tuned:.1%} (difference {verdict.low:+.2%} to {verdict.high:+.2%}). "
            f"Kept: {kept}."
        )


def note_baseline(
    notes: dict[str, Any],
    context: TrainingContext,
    data: ImageTable,
    features: np.ndarray,
    episodes: int,
    name: str = "raw",
) -> None:
    """What untrained features ``(N, D)`` come to, by cosine: the floor that everything else stands on."""
    found: dict[str, Any] = {"embedding": name}
    comparison = Comparison()
    for split in ("val", "test"):
        rows = data.indices(split)
        try:
            trial = OneShot.draw(data.labels[rows], episodes, SEED)
        except DataError:  # no such split, or too few images in it
            continue
        embeddings = ClosedForm("raw").embed(features[rows])
        mean, half = interval(trial.accuracies(embeddings, comparison))
        found[split] = {"one_shot_accuracy": mean, "interval": half}
    notes["baseline"] = found
    told = [
        f"{values['one_shot_accuracy']:.1%} one-shot on {split} classes"
        for split, values in found.items()
        if split != "embedding"
    ]
    context.say(f"Baseline, {name}: {', '.join(told) or 'nothing to measure it on'}.")
