"""The smallest precision that is good enough: tried in the order wanted, judged by the accuracy that may be lost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from keras_transfer.errors import UsageError
from keras_transfer.export.parity import Judge, breaches, doubts
from keras_transfer.export.report import ArtefactReport
from keras_transfer.export.request import UNQUANTIZED, Target, plan_targets
from keras_transfer.records import Tolerance

FALLBACK = ("int8", "int16x8", "float16")


def plan_fallback(
    budget: float | None, fallback: Sequence[str], formats: Sequence[str], precisions: Sequence[str]
) -> list[Target]:
    """The TFLite files to try, in order; none without a budget.

    Raises ``UsageError`` for a budget that is no number of points in [0, 100], precisions that are unknown or asked for
    anyway, or when ``tflite`` is not among the formats.
    """
    if budget is None:
        return []
    if not (math.isfinite(budget) and 0 <= budget <= 100):
        raise UsageError(
            f"accuracy_budget is {budget}; points of accuracy from 0 to 100 are expected, such as 1."
        )
    if "tflite" not in formats:
        raise UsageError(
            "accuracy_budget chooses among TFLite files, and the format 'tflite' was not asked for."
        )
    asked = {UNQUANTIZED.get(name, name) for name in precisions}
    both = [name for name in fallback if UNQUANTIZED.get(name, name) in asked]
    if both:
        raise UsageError(
            f"Precision {', '.join(both)} is asked for and in fallback, too; leave it out of one of them."
        )
    return plan_targets(("tflite",), fallback)


def choose_within(
    tried: Sequence[ArtefactReport], budget: float | None, judge: Judge
) -> tuple[ArtefactReport, ...]:
    """The first that loses at most ``budget`` points; all of them, with what is wrong, when none does.

    Points are hundredths of a metric where more is better, percent of Keras's where less is.
    """
    if budget is None:
        return ()
    tolerance = Tolerance(drop=budget / 100)
    judged = [
        replace(
            one,
            tolerance=tolerance,
            reasons=breaches(one.parity, tolerance, judge),
            doubts=doubts(one.parity, tolerance, judge),
        )
        for one in tried
    ]
    return next(((one,) for one in judged if one.passed), tuple(judged))
