"""Numbers as people read them."""

from __future__ import annotations


def percent(share: float | None) -> str:
    """``0.8537`` -> ``85.4 %``; None -> ``-``."""
    return "-" if share is None else f"{100 * share:.1f} %"


def is_share(metric: str) -> bool:
    """Whether a metric is a share of right answers, told in percent: an accuracy. Of other names nobody knows: a kappa
    or a correlation is none.
    """
    return metric.endswith("accuracy")


def score(metric: str, value: float | None) -> str:
    """A metric for people: accuracies in percent, others as numbers; None -> ``-``."""
    if value is None or is_share(metric):
        return percent(value)
    return f"{value:.4g}"
