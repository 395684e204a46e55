"""The smallest precision that is good enough: tried in the order wanted, judged by the accuracy that may be lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from keras_transfer.export.parity import Judge, breaches, doubts
from keras_transfer.export.report import ArtefactReport
from keras_transfer.records import Tolerance


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
