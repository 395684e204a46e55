"""Everything that is told of embeddings: episodes, verification, retrieval, open set, from one matrix of scores."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

import numpy as np

from keras_transfer.data import ImageTable
from keras_transfer.errors import DataError
from keras_transfer_siamese.classes import alphabets_of
from keras_transfer_siamese.comparison import Comparison
from keras_transfer_siamese.episodes import (
    DEFAULTS,
    Episodes,
    Likeness,
    Setting,
    accuracies,
    draw_episodes,
    fitting,
    interval,
    require_one_shot,
)
from keras_transfer_siamese.retrieval import open_set, retrieval
from keras_transfer_siamese.verification import FAR, Roc, pairs

log = logging.getLogger("keras_transfer")
MOST = 2000
"""Images that are compared with one another: two million pairs. Of more, evenly many of each class are taken."""
FEW = 400
"""Images whose pairs tell equals apart."""
OMNIGLOT = Setting(20, 1)


@dataclass(frozen=True)
class Protocol:
    """What is measured.

    Attributes:
        settings: of the episodes; empty: :data:`DEFAULTS`, shrunk to what there is.
        episodes: of each setting.
        omniglot: within alphabets, one writer against another.
        seed: of episodes and draws.

    Raises ``UsageError`` for settings that the Omniglot protocol does not have.
    """

    settings: tuple[Setting, ...] = ()
    episodes: int = 1000
    omniglot: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for setting in self.settings if self.omniglot else ():
            require_one_shot(setting)


@dataclass(frozen=True, eq=False)
class Compared:
    """Embeddings ``(M, D)`` of the images ``rows`` ``(M,)`` of a table, each compared with each.

    Attributes:
        labels: int ``(M,)``.
        likeness: how alike any two of them are.
        roc: of the pairs; None where there are not both kinds.
    """

    rows: np.ndarray
    labels: np.ndarray
    embeddings: np.ndarray
    likeness: Likeness
    roc: Roc | None

    @classmethod
    def of(cls, embeddings: np.ndarray, table: ImageTable, comparison: Comparison, seed: int) -> Compared:
        """Of embeddings ``(N, D)`` of the N images of a table: at most :data:`MOST` of them, decided by the seed.

        Raises ``DataError`` for embeddings that are not finite.
        """
        embeddings = np.asarray(embeddings, np.float32)
        broken = ~np.isfinite(embeddings).all(axis=1)
        if broken.any():
            raise DataError(
                f"{int(broken.sum())} of {len(embeddings)} embeddings are not finite numbers, such as that of "
                f"{table.images.describe(int(broken.argmax()))}. The model is damaged or diverged: train it again, "
                "with a lower --learning-rate."
            )
        rows = thinned(table.labels, MOST, seed)
        labels, chosen = table.labels[rows], embeddings[rows]
        likeness = Likeness(chosen, comparison)
        return cls(rows, labels, chosen, likeness, Roc.of(*pairs(likeness.scores, labels)))

    @property
    def scores(self) -> np.ndarray:
        """Float ``(M, M)``: how alike each is to each."""
        return self.likeness.scores


def measure(
    embeddings: np.ndarray,
    table: ImageTable,
    comparison: Comparison,
    protocol: Protocol,
    thresholds: Mapping[str, float | None] = MappingProxyType({}),
) -> dict[str, Any]:
    """Metrics of embeddings ``(N, D)`` of the N images of a table.

    There is what the spec of the task declares, and: ``one_shot_interval`` (half the width of the 95 %
    interval), ``one_shot_ways``, ``episodes`` (every setting with its accuracy and interval), ``accuracy_20x1`` and the
    like, ``false_accept_rate`` and ``true_accept_rate`` at the comparison's threshold, ``at_chosen_thresholds`` (the
    same two, and the ``threshold``, for each of ``thresholds``, which were chosen on other classes for the false accept
    rates that name them), ``open_set``, ``compared`` (how many images).

    Raises:
        DataError: embeddings that are not finite, or too few classes or images for what is asked.
    """
    compared = Compared.of(embeddings, table, comparison, protocol.seed)
    likeness, labels = compared.likeness, compared.labels
    metrics = _episodes(likeness, table.take(compared.rows), protocol)
    metrics |= _verification(compared.roc, comparison, thresholds)
    metrics |= retrieval(likeness.scores, labels)
    strangers = open_set(likeness.scores, labels, protocol.seed)
    metrics["open_set_auroc"] = strangers["auroc"] if strangers else None
    metrics["open_set"] = strangers
    metrics["classes"] = len(np.unique(labels))
    metrics["compared"] = len(compared.rows)
    return metrics


def thinned(labels: np.ndarray, most: int, seed: int) -> np.ndarray:
    """At most ``most`` rows, of each class as evenly many as there are; ascending. Decided by the seed."""
    if len(labels) <= most:
        return np.arange(len(labels))
    rng = np.random.default_rng((seed, most))
    order = rng.permutation(len(labels))
    turn = np.empty(len(labels), np.int64)
    seen: dict[int, int] = {}
    for row in order.tolist():
        label = int(labels[row])
        turn[row] = seen.get(label, 0)
        seen[label] = int(turn[row]) + 1
    return np.sort(order[np.argsort(turn[order], kind="stable")][:most])


@dataclass(frozen=True, eq=False)
class OneShot:
    """What models are compared by: the same 20-way (or as many as there are) 1-shot episodes, drawn once.

    Attributes:
        labels: int ``(N,)``.
        rows: of the images that are in the episodes.
        episodes: numbers among ``rows``.
    """

    labels: np.ndarray
    rows: np.ndarray
    episodes: Episodes

    @classmethod
    def draw(cls, labels: np.ndarray, count: int, seed: int) -> OneShot:
        """``count`` episodes. Raises ``DataError`` where not even two classes have two images."""
        rows = thinned(labels, MOST, seed)
        (setting,) = fitting(DEFAULTS[:1], labels[rows])
        return cls(labels, rows, draw_episodes(labels[rows], setting, count, seed))

    def accuracies(self, embeddings: np.ndarray, comparison: Comparison) -> np.ndarray:
        """The accuracy of each episode, float64 ``(E,)``, for embeddings ``(N, D)``."""
        return accuracies(Likeness(embeddings[self.rows], comparison), self.episodes)

    def score(self, embeddings: np.ndarray, comparison: Comparison) -> tuple[float, float]:
        """The mean accuracy, and to tell equals apart the area under the ROC of some pairs."""
        some = self.rows[thinned(self.labels[self.rows], FEW, 0)]
        chosen = embeddings[some]
        roc = Roc.of(*pairs(comparison.scores(chosen, chosen), self.labels[some]))
        return float(self.accuracies(embeddings, comparison).mean()), roc.auc if roc else 0.0


def require_possible(table: ImageTable, protocol: Protocol) -> None:
    """Raise ``DataError`` when a table has too few classes or images for a protocol: before a training, not after."""
    _drawn(table.take(thinned(table.labels, MOST, protocol.seed)), replace(protocol, episodes=1))


def _drawn(table: ImageTable, protocol: Protocol) -> list[tuple[Setting, Episodes]]:
    """The episodes of every setting."""
    asked: Sequence[Setting] = protocol.settings
    alphabets = writers = None
    if protocol.omniglot:
        asked = asked or (OMNIGLOT,)
        alphabets, writers = alphabets_of(table), _writers(table)
    elif not asked:
        asked = fitting(DEFAULTS, table.labels)
    count, seed = protocol.episodes, protocol.seed
    return [
        (one, draw_episodes(table.labels, one, count, seed, alphabets=alphabets, writers=writers))
        for one in asked
    ]


def _episodes(likeness: Likeness, table: ImageTable, protocol: Protocol) -> dict[str, Any]:
    every = _drawn(table, protocol)
    asked = tuple(setting for setting, _ in every)
    if not protocol.settings and not protocol.omniglot and asked != DEFAULTS:
        log.info("Episodes are reduced to the existing classes and images: %s.", ", ".join(map(str, asked)))
    found = {}
    for setting, drawn in every:
        mean, half = interval(accuracies(likeness, drawn))
        found[str(setting)] = {
            "ways": setting.ways,
            "shots": setting.shots,
            "queries": drawn.query.shape[2],
            "episodes": protocol.episodes,
            "accuracy": mean,
            "interval": half,
        }
    single = [row for row in found.values() if row["shots"] == 1]
    if not single:
        (setting,) = fitting(DEFAULTS[:1], table.labels)
        drawn = draw_episodes(table.labels, setting, protocol.episodes, protocol.seed)
        mean, half = interval(accuracies(likeness, drawn))
        single = [{"ways": setting.ways, "accuracy": mean, "interval": half}]
    return {
        "one_shot_accuracy": single[0]["accuracy"],
        "one_shot_interval": single[0]["interval"],
        "one_shot_ways": single[0]["ways"],
        **{f"accuracy_{name}": row["accuracy"] for name, row in found.items()},
        "protocol": "omniglot" if protocol.omniglot else "episodes",
        "episodes": found,
    }


def _verification(
    roc: Roc | None, comparison: Comparison, thresholds: Mapping[str, float | None]
) -> dict[str, Any]:
    names = [f"tar_at_far_{rate}" for rate in FAR]
    if roc is None:
        return dict.fromkeys(["verification_auc", "equal_error_rate", *names])
    found: dict[str, Any] = {"verification_auc": roc.auc, "equal_error_rate": roc.equal_error[0]}
    for name, rate in zip(names, FAR, strict=True):
        at = roc.at_false_accepts(rate)
        found[name] = None if at is None else at[0]
    found["pairs"] = {"same": roc.same, "different": roc.different}
    if comparison.threshold is not None:
        found["false_accept_rate"], found["true_accept_rate"] = roc.at_threshold(comparison.threshold)
    told = ("threshold", "false_accept_rate", "true_accept_rate")
    found["at_chosen_thresholds"] = {
        rate: dict(zip(told, (threshold, *roc.at_threshold(threshold)), strict=True))
        for rate, threshold in thresholds.items()
        if threshold is not None
    }
    return found


def _writers(table: ImageTable) -> np.ndarray | None:
    """Who drew each image: what stands behind the last underscore of its file's name (Omniglot: ``0001_07.png``)."""
    found = [PurePosixPath(table.images.name(i)).stem.rpartition("_") for i in range(len(table))]
    if not all(before and writer for before, _, writer in found):
        log.info("Not every file is called SOMETHING_WRITER, so one writer is not compared with another.")
        return None
    return np.array([writer for _, _, writer in found])
