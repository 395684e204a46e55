"""N-way K-shot episodes: how often the right one of N new classes is found after K images of each.

Vinyals et al. 2016 (arXiv:1606.04080), Snell et al. 2017 (arXiv:1703.05175). An episode draws N classes, K support and
up to :data:`QUERIES` query images of each; a query belongs to the class whose prototype (the mean of its support
embeddings) is most alike, as :class:`Comparison` sees it. All episodes are computed together from one matrix.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_transfer.errors import DataError, UsageError
from keras_transfer_siamese.comparison import Comparison

QUERIES = 5
BLOCK = 1 << 23
"""Numbers a block of episodes looks up at once."""


@dataclass(frozen=True, order=True)
class Setting:
    """``ways`` classes, ``shots`` support images of each."""

    ways: int
    shots: int

    def __str__(self) -> str:
        return f"{self.ways}x{self.shots}"

    @classmethod
    def parse(cls, text: str) -> Setting:
        """``"20x1"``. Raises ``UsageError`` for anything else."""
        found = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text.strip())
        if not found or int(found[1]) < 2 or int(found[2]) < 1:
            raise UsageError(
                f"--episodes-at {text!r} was given; WAYSxSHOTS is expected, such as 20x1: 2 ways and 1 shot at least."
            )
        return cls(int(found[1]), int(found[2]))


DEFAULTS = (Setting(20, 1), Setting(5, 1), Setting(20, 5), Setting(5, 5))


@dataclass(frozen=True, eq=False)
class Episodes:
    """Row numbers: ``support`` int ``(E, N, K)``, ``query`` int ``(E, N, Q)``; ``[:, n]`` are of one class."""

    support: np.ndarray
    query: np.ndarray

    @property
    def setting(self) -> Setting:
        """Ways and shots."""
        return Setting(*self.support.shape[1:])


class Likeness:
    """How alike every two of M embeddings are, computed once.

    Args:
        embeddings: float32 ``(M, D)``.
        comparison: what is meant by alike.
    """

    def __init__(self, embeddings: np.ndarray, comparison: Comparison) -> None:
        self.kind = comparison.kind
        self.scores = comparison.scores(embeddings, embeddings)
        if self.kind == "euclidean":  # prototypes need squared distances
            self._matrix = self.scores**2
        else:
            self._matrix = self.scores

    def to_prototypes(self, episodes: Episodes) -> np.ndarray:
        """Every query against every prototype of its episode: float32 ``(E, N, Q, N)``, higher for more alike.

        With weighted L1, which knows no prototypes, the mean of the probabilities.
        """
        count, ways, shots = episodes.support.shape
        queries = episodes.query.shape[2]
        result = np.empty((count, ways, queries, ways), np.float32)
        step = max(1, BLOCK // (ways * queries * ways * shots))
        for start in range(0, count, step):
            part = slice(start, start + step)
            result[part] = self._block(episodes.support[part], episodes.query[part])
        return result

    def _block(self, support: np.ndarray, query: np.ndarray) -> np.ndarray:
        pairs = self._matrix[query[:, :, :, None, None], support[:, None, None]].mean(axis=-1)
        if self.kind == "weighted_l1" or support.shape[2] == 1:
            return -pairs if self.kind == "euclidean" else pairs
        within = self._matrix[support[..., :, None], support[..., None, :]].mean(axis=(-2, -1))
        within = within[:, None, None]
        if (
            self.kind == "cosine"
        ):  # the prototype is the mean of directions: its length is the root of ``within``
            return pairs / np.sqrt(np.maximum(within, 1e-12))
        return within / 2 - pairs  # |q - p|^2 is the mean square distance less half the support's own


def draw_episodes(
    labels: np.ndarray,
    setting: Setting,
    count: int,
    seed: int,
    *,
    alphabets: np.ndarray | None = None,
    writers: np.ndarray | None = None,
) -> Episodes:
    """Episodes of rows of ``labels``, decided by the seed alone.

    Args:
        labels: int ``(M,)``.
        setting: ways and shots.
        count: episodes.
        seed: of the drawing.
        alphabets: ``(M,)``: an episode's classes are of one alphabet, drawn first (Lake et al. 2015).
        writers: ``(M,)``, with ``alphabets``: all support images are by one writer and all queries by another.

    Raises:
        DataError: fewer classes than ways, or fewer images than shots and a query.
    """
    labels = np.asarray(labels)
    rng = np.random.default_rng((seed, setting.ways, setting.shots))
    if alphabets is not None:
        return _within_alphabets(labels, setting, count, rng, alphabets, writers)
    rows = _rows_by_class(labels)
    usable = [found for found in rows if len(found) > setting.shots]
    if len(usable) < setting.ways:
        raise DataError(
            f"Episodes of {setting.ways} ways and {setting.shots} shots need {setting.ways} classes with at least "
            f"{setting.shots + 1} images each; here are {len(rows)} classes, {len(usable)} of them with so many. "
            "Ask for fewer (--episodes-at WAYSxSHOTS), or add images."
        )
    each = setting.shots + min(QUERIES, min(map(len, usable)) - setting.shots)
    classes = np.empty((count, setting.ways), np.int64)
    for episode in range(count):
        classes[episode] = rng.choice(len(usable), setting.ways, replace=False, shuffle=True)
    drawn = np.empty((count, setting.ways, each), np.int64)
    for place, members in enumerate(usable):
        where = np.nonzero(classes == place)
        keys = rng.random((len(where[0]), len(members)))
        drawn[where] = members[np.argsort(keys, axis=1)[:, :each]]
    return Episodes(drawn[..., : setting.shots], drawn[..., setting.shots :])


def require_one_shot(setting: Setting) -> None:
    """Raise ``UsageError`` for a setting that the Omniglot protocol does not have."""
    if setting.shots != 1:
        raise UsageError(
            f"--protocol omniglot is one-shot; {setting} was asked for. Leave --episodes-at out, or ask for 1 shot."
        )


def _within_alphabets(
    labels: np.ndarray,
    setting: Setting,
    count: int,
    rng: np.random.Generator,
    alphabets: np.ndarray,
    writers: np.ndarray | None,
) -> Episodes:
    """One alphabet an episode; with writers, one image of each class by each of the two drawn for it."""
    require_one_shot(setting)
    usable = []
    for alphabet in sorted(set(alphabets.tolist())):
        rows = np.flatnonzero(alphabets == alphabet)
        members = [rows[found] for found in _rows_by_class(labels[rows]) if len(found) > 1]
        if len(members) >= setting.ways:
            usable.append(members)
    if not usable:
        raise DataError(
            f"No alphabet has {setting.ways} classes with at least two images each, as --protocol omniglot needs. Give "
            "alphabet/character folders (--levels 2), or ask for fewer ways (--episodes-at 5x1)."
        )
    support = np.empty((count, setting.ways, 1), np.int64)
    query = np.empty_like(support)
    for episode in range(count):
        members = usable[rng.integers(len(usable))]
        chosen = [members[i] for i in rng.choice(len(members), setting.ways, replace=False)]
        pair = None
        if writers is not None:
            common = sorted(set.intersection(*(set(writers[rows].tolist()) for rows in chosen)))
            pair = rng.choice(common, 2, replace=False) if len(common) > 1 else None
        for way, rows in enumerate(chosen):
            if pair is None:
                one, other = rng.choice(rows, 2, replace=False)
            else:
                one, other = (rng.choice(rows[writers[rows] == writer]) for writer in pair)  # type: ignore[index]
            support[episode, way], query[episode, way] = one, other
    return Episodes(support, query)


def accuracies(likeness: Likeness, episodes: Episodes) -> np.ndarray:
    """The share of queries given to the right class, for each episode: float64 ``(E,)`` in [0, 1]."""
    found = likeness.to_prototypes(episodes).argmax(axis=-1)
    truth = np.arange(found.shape[1])[None, :, None]
    return (found == truth).mean(axis=(1, 2))


def interval(values: np.ndarray) -> tuple[float, float]:
    """The mean over episodes, and half the width of its 95 % confidence interval (normal approximation)."""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return float(np.mean(values)), 1.96 * spread / float(np.sqrt(len(values)))


def fitting(asked: Sequence[Setting], labels: np.ndarray) -> list[Setting]:
    """The default settings shrunk to what is there: fewer ways, then fewer shots; each once.

    Raises ``DataError`` when not even two classes have two images.
    """
    sizes = np.unique(labels, return_counts=True)[1]
    several = int((sizes > 1).sum())
    if several < 2:
        raise DataError(
            f"Recognition is measured on at least two classes with at least two images each; here are {len(sizes)} "
            f"classes, {several} of them with so many. Add images, or change the split."
        )
    found: dict[Setting, None] = {}
    for setting in asked:
        shots = setting.shots
        while (sizes > shots).sum() < 2:
            shots -= 1
        found[Setting(min(setting.ways, int((sizes > shots).sum())), shots)] = None
    return list(found)


def _rows_by_class(labels: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(labels, kind="stable")
    edges = np.flatnonzero(np.diff(labels[order])) + 1
    return np.split(order, edges) if len(order) else []
