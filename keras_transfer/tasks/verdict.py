"""The guard's question to a task: is the fine-tuned network better than the probe, by the task's own score?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_transfer.data import ImageTable
from keras_transfer.tasks.base import TrainingContext
from keras_transfer.tasks.specs import task_spec
from keras_transfer.training.guard import FEW, Verdict, deciding, paired_verdict
from keras_transfer.training.temperature import tempered

BALANCED, LOG_LOSS = "balanced_accuracy", "log_loss"
Score = Callable[[np.ndarray, ImageTable, str], float | None]
"""``(outputs (n, ...), their n images, name of a metric)`` -> its value; None where these images do not tell it."""


def verdict_on(
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
    one_class = data.label_mode == "classes" and len(np.unique(data.labels[val])) < 2
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
    if not verdicts[0].certain and not balanced and LOG_LOSS in spec.metrics and data.label_mode == "classes":
        labels = data.labels[val]
        verdicts.append(verdict(LOG_LOSS, tempered(before, labels), tempered(after, labels)))
    return verdicts
