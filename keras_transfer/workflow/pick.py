"""Which unlabelled images to label next."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from sklearn.preprocessing import normalize

from keras_transfer.data import ImageTable
from keras_transfer.data.kept import keep_pixels
from keras_transfer.data.unlabelled import unlabelled_table
from keras_transfer.errors import DataError, UsageError, unknown_name
from keras_transfer.features import extract
from keras_transfer.heads import features_input
from keras_transfer.inference import engines
from keras_transfer.picking.choosing import CANDIDATES, WAYS, Unlabelled
from keras_transfer.picking.different import Pictures, choose_different
from keras_transfer.picking.doubt import MEASURES, doubt_of_classes, doubt_of_labels, evened
from keras_transfer.picking.spread import distances
from keras_transfer.run import BACKBONE, Run, open_run
from keras_transfer.settings import EngineSettings
from keras_transfer.workflow.evaluate import recorded_splits
from keras_transfer.workflow.export import open_with_data
from keras_transfer.workflow.picked import Pick, Picks
from keras_transfer.workflow.predict import find_images

log = logging.getLogger("keras_transfer")
TASKS = ("classification", "multilabel", "regression")
"""Whose runs can be asked."""
BATCH = 1024


def pick(
    run: str | Path | Run,
    pool: str | Path | Sequence[str | Path],
    *,
    count: int,
    by: str | None = None,
    candidates: int = CANDIDATES,
    data: Any = None,
    seed: int = 0,
) -> Picks:
    """Choose the unlabelled images whose labels will teach a model most.

    The most doubtful images are clustered by their features, and of each cluster the middle one is taken. No pick is an
    image of the run, or shows what another pick or a training image shows.

    Args:
        run: a run folder of the tasks classification, multilabel or regression, or an opened run.
        pool: files, folders, archives, parquet, or CSV files with a column ``path``; or a list of such.
        count: how many images.
        by: ``margin``, ``entropy``, ``confidence``, ``gradient`` or ``spread``, see
            :mod:`keras_transfer.picking.choosing`; by default ``margin``, and ``spread`` where the model gives numbers.
        candidates: so many times ``count`` of the most doubtful images are clustered; 1: they are taken as they are.
        data: the run's data, if they are no longer where they were.
        seed: of the clusters.

    Raises:
        UsageError: numbers out of range, more images than there are, another task, or nothing that is not known.
        DataError: images that cannot be used.
    """
    if count < 1:
        raise UsageError(f"--count {count} was given; at least 1 image is expected.")
    if candidates < 1:
        raise UsageError(f"--candidates {candidates} was given; at least 1 is expected.")
    if by is not None and by not in WAYS:
        raise unknown_name("way to pick", by, WAYS)
    opened = run if isinstance(run, Run) else open_run(run)
    by = _way(opened, by)
    asked = [pool] if isinstance(pool, (str, Path)) else list(pool)
    paths = find_images(asked)
    contract = opened.record.contract
    with keep_pixels(contract.preprocessing):
        found = unlabelled_table(paths, ", ".join(map(str, asked[:3])), max_skipped=1.0)
    table, known, copies = _unknown(opened, found)
    if count > len(table):
        own = f" ({known} more are the run's own, {copies} more are copies)" if known or copies else ""
        raise UsageError(
            f"--count {count} was given, and {found.source} has {len(table)} images that could be labelled{own}. Ask "
            f"for at most {len(table)}."
        )
    learned = _learned(opened, data)
    network = _Network(opened)
    seen = network.features(table)
    before = seen[:0] if learned is None else network.features(learned)
    middle = (seen.sum(axis=0) + before.sum(axis=0)) / (len(seen) + len(before))
    values, labelled = (_directions(one, middle) for one in (seen, before))
    outputs = network.outputs(seen)
    images = Unlabelled(values, *_doubts(opened, outputs, by), distances(values, labelled))
    pictures = Pictures(table, values, learned, labelled)
    rows, near = choose_different(pictures, images, by, count, candidates=candidates, seed=seed)
    if not len(rows):
        raise UsageError(
            f"All {len(table)} images of {found.source} show what images of {opened.path} show. Give other images."
        )
    if len(rows) < count:
        log.warning(
            "%d of %d images are picked: all others show what these or training images show.",
            len(rows),
            count,
        )
    if by != "spread" and images.doubt is not None:
        rows = rows[np.argsort(-images.doubt[rows], kind="stable")]
    root = _root(asked, paths)
    return Picks(
        picks=[_told(opened, table, root, images, outputs, by, int(row)) for row in rows],
        run=str(opened.path),
        task=contract.task,
        by=by,
        names=contract.names,
        root=root,
        images=len(table),
        known=known,
        copies=copies,
        near=near,
        skipped=[{"path": one.path, "reason": one.reason} for one in found.skipped],
        computed=network.computed,
        preprocessing=contract.preprocessing,
    )


def _way(run: Run, by: str | None) -> str:
    """How to pick for a run's task. Raises ``UsageError`` for a task or a way that do not go."""
    task = run.record.contract.task
    if task not in TASKS:
        raise UsageError(
            f"{run.path} is a run of the task {task}; images can be picked for runs of {', '.join(TASKS)}."
        )
    if task != "regression":
        return by or "margin"
    if by not in (None, "spread"):
        raise UsageError(
            f"--by {by} was given, and {run.path} gives numbers, which tell nothing of doubt. Leave --by out: images "
            "far from the training images are picked."
        )
    return "spread"


def _unknown(run: Run, found: ImageTable) -> tuple[ImageTable, int, int]:
    """The images that a run does not know, each once; how many it knows, and how many are copies of others.

    Raises ``UsageError`` where it knows all.
    """
    recorded = recorded_splits(run)
    rows: dict[str, int] = {}
    for row, digest in enumerate(found.sha256):
        if digest not in recorded:
            rows.setdefault(digest, row)
    known = sum(digest in recorded for digest in found.sha256)
    if not rows:
        raise UsageError(
            f"All {known} images of {found.source} are images of {run.path}, which are labelled. Give images that it "
            "does not know."
        )
    if known:
        log.warning(
            "%d of %d images of %s are images of %s, which are labelled: they are left out.",
            known,
            len(found),
            found.source,
            run.path,
        )
    return found.take(np.array(list(rows.values()))), known, len(found) - known - len(rows)


def _learned(run: Run, data: Any) -> ImageTable | None:
    """The images that a run learned from; None, with a warning, where they cannot be read."""
    try:
        table = open_with_data(run, data)[2]
    except (UsageError, DataError) as error:
        if data is not None:
            raise
        log.warning("The picks are compared with one another, not with the training images: %s", error)
        return None
    return table.take(np.flatnonzero(np.isin(table.splits, run.learned_from)))


class _Network:
    """A run's model in two: pixels to the features that its head sees, through the cache; and the head."""

    def __init__(self, run: Run) -> None:
        model, notes = run.load_model(), run.record.contract.notes
        cut = features_input(model)
        self._extractor = keras.Model(model.inputs, cut, name=model.name)
        self._head = keras.Model(cut, model.output)
        self._preprocessing = run.record.contract.preprocessing
        self._converted = (run.path / BACKBONE).read_bytes() if notes.get("deploy") else None
        self._engine = _engine(notes.get("features") or {})
        self.computed = 0

    def features(self, table: ImageTable) -> np.ndarray:
        """float32 ``(N, D)``."""
        found = extract(
            table,
            self._extractor,
            preprocessing=self._preprocessing,
            engine=self._engine.engine,
            engine_precision=self._engine.engine_precision,
            converted=self._converted,
        )
        self.computed += found.computed
        return found.values

    def outputs(self, features: np.ndarray) -> np.ndarray:
        """float32 ``(N, C)``: what the model answers."""
        return self._head.predict(features, batch_size=BATCH, verbose=0)


def _engine(noted: Any) -> EngineSettings:
    """What computed the features that a run learned from, where it can be had here: they are in the cache then."""
    asked = EngineSettings(str(noted.get("engine", "auto")), str(noted.get("engine_precision", "float32")))
    try:
        engines.require(asked)
    except UsageError:
        return EngineSettings()
    return asked


def _directions(features: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """Features without the mean of all images, of unit length."""
    return normalize(features - middle).astype(np.float32, copy=False) if len(features) else features


def _thresholds(run: Run) -> np.ndarray:
    noted = run.record.contract.notes.get("thresholds") or {}
    return np.array([float(noted.get(name, 0.5)) for name in run.record.contract.names])


def _doubts(run: Run, outputs: np.ndarray, by: str) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Doubt ``(N,)`` and the gradients by the logits ``(N, C)`` of a classifier's outputs."""
    task, measure = run.record.contract.task, by if by in MEASURES else "margin"
    if task == "regression":
        return None, None
    if task == "multilabel":
        thresholds = _thresholds(run)
        yes = evened(outputs, thresholds)
        return doubt_of_labels(outputs, thresholds, measure), yes - (yes >= 0.5)
    expected = np.eye(outputs.shape[1])[outputs.argmax(axis=1)]
    return doubt_of_classes(outputs, measure), outputs - expected


def _root(asked: list[str | Path], paths: list[Path]) -> Path:
    """The folder that was given, or the one that holds all images."""
    if len(asked) == 1 and Path(asked[0]).is_dir():
        return Path(asked[0])
    return Path(os.path.commonpath([path.absolute().parent for path in paths]))


def _told(
    run: Run, table: ImageTable, root: Path, images: Unlabelled, outputs: np.ndarray, by: str, row: int
) -> Pick:
    path, names, answer = table.images.describe(row), run.record.contract.names, outputs[row].astype(float)
    distance = float(images.apart[row]) if np.isfinite(images.apart[row]) else None
    score = distance if by == "spread" or images.doubt is None else float(images.doubt[row])
    probability: float | None = None
    second, margin = "", None
    if run.record.contract.task == "regression":
        expected = tuple(f"{value:.6g}" for value in answer)
    elif run.record.contract.task == "multilabel":
        yes = evened(answer, _thresholds(run))
        expected = tuple(name for name, chance in zip(names, yes, strict=True) if chance >= 0.5)
        least = int(np.abs(2 * yes - 1).argmin())
        second, margin = names[least], float(abs(2 * yes[least] - 1))
        probability = float(max(answer[least], 1 - answer[least]))
    else:
        first, other = np.argsort(-answer, kind="stable")[:2]
        expected, second = (names[first],), names[other]
        probability, margin = float(answer[first]), float(answer[first] - answer[other])
    name = os.path.relpath(path, root).replace(os.sep, "/")
    return Pick(path, name, score, expected, probability, second, margin, distance)
