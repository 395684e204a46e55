"""What a run's page tells, from what the run's folder holds: nothing is computed again, no network runs."""

from __future__ import annotations

import base64
import csv
import json
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from keras_transfer.errors import KerasTransferError, RunError, UsageError
from keras_transfer.evaluation.calibration import reliability
from keras_transfer.options import option_infos, to_dict
from keras_transfer.records import BundleRecord, DamagedError, RunRecord
from keras_transfer.records.layout import BUNDLE
from keras_transfer.run import MODEL, PLOTS, PREDICTIONS, SPLIT
from keras_transfer.settings import TrainSettings
from keras_transfer.tasks.specs import task_spec
from keras_transfer.wording import percent, score

SPLITS = ("train", "val", "test")
MOST_IN_A_MATRIX = 20
"""Of more classes the pairs that are confused most are listed, not the matrix."""
MOST_PAIRS, MOST_CLASSES, MOST_ISSUES = 30, 300, 20
MOST_PLOTS = 1_500_000
"""Bytes of pictures that one run's page embeds."""
OWN_PLOTS = ("confusion_matrix.png", "reliability.png")
"""The page draws these itself, so that they can be read, searched and printed."""
BADLY_CALIBRATED, WEAK = 0.1, 0.7
ENOUGH_TO_CALIBRATE = 50
"""Of fewer images a calibration error says little."""


def facts_of(folder: Path, name: str, record: RunRecord) -> dict[str, Any]:
    """What the page tells of a run but for its pictures.

    Args:
        folder: where its files are.
        name: the folder it will have; the page says it.
        record: of the run.
    """
    split, metrics = next(iter(record.metrics.items()), ("", {}))
    rows = split_rows(folder)
    issues = issues_of(rows)
    answers, labels = answers_of(folder, record, rows)
    bins = _bins(answers, labels)
    per_class = _per_class(metrics)
    main = main_metric(record)
    size = (folder / MODEL).stat().st_size if (folder / MODEL).is_file() else None
    found = {
        "name": name,
        "record": record,
        "split": split,
        "main": main,
        "main_text": metric_text(main, metrics.get(main)),
        "metrics": [(key, metric_text(key, value)) for key, value in metrics.items() if _is_number(value)],
        "images": metrics.get("images"),
        "counts": _counts(record),
        "issues": issues,
        "near": record.contract.notes.get("near_duplicates"),
        "plan": _plan(record.contract.notes),
        "per_class": per_class,
        "columns": _columns(per_class),
        "matrix": None,
        "pairs": [],
        "bins": bins,
        "kept": answers is not None,
        "bytes": size,
        "seconds": sum(value for value in record.seconds.values() if _is_number(value)),
        "command": command(record, name),
    }
    names, matrix = list(metrics.get("per_class") or {}), metrics.get("confusion_matrix")
    if matrix is not None and len(names) == len(matrix):
        if len(names) <= MOST_IN_A_MATRIX:
            found["matrix"] = {"names": names, "rows": _shaded(names, matrix)}
        found["pairs"] = _pairs(names, matrix)
    found["plots"], found["plots_left_out"] = _plots(folder)
    found["sentences"] = _sentences(found, metrics)
    return found


def main_metric(record: RunRecord) -> str:
    """The metric that is shown first; of a task that is not installed the first one that is a number."""
    metrics = next(iter(record.metrics.values()), {})
    try:
        wanted = task_spec(record.contract.task).main_metric
    except KerasTransferError:
        wanted = ""
    numbers = [name for name, value in metrics.items() if _is_number(value) and name != "images"]
    return wanted if wanted in numbers or not numbers else numbers[0]


def metric_text(name: str, value: Any) -> str:
    """A metric for people."""
    if not _is_number(value):
        return "-"
    return f"{value}" if isinstance(value, int) else score(name, value)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def split_rows(folder: Path) -> list[dict[str, str]]:
    """The rows of ``split.csv``, in its order; none where it is gone."""
    try:
        with (folder / SPLIT).open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = [{key: value or "" for key, value in row.items() if key} for row in csv.DictReader(file)]
    except (OSError, csv.Error):
        return []
    return rows if all({"path", "label", "split", "sha256"} <= row.keys() for row in rows) else []


def issues_of(rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Images that are equal byte for byte: with different labels, or in several splits; the rest of ``check`` takes
    longer than a page may.

    Returns:
        ``kind`` (``conflict``, ``leak``, ``copies``), ``count`` and ``examples``: lists of texts, one a picture.
    """
    same: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    for row in rows:
        same[row["sha256"]].append(row)
    found: dict[str, list[list[str]]] = {"conflict": [], "leak": [], "copies": []}
    for copies in same.values():
        if len(copies) < 2:
            continue
        texts = [f"{row['path']} ({row['label']}, {row['split']})" for row in copies]
        labels, splits = {row["label"] for row in copies}, {row["split"] for row in copies}
        if len(labels) > 1:
            found["conflict"].append(texts)
        if len(splits) > 1:
            found["leak"].append(texts)
        if len(labels) == len(splits) == 1:
            found["copies"].append(texts)
    return [
        {"kind": kind, "count": len(examples), "examples": [texts[:4] for texts in examples[:MOST_ISSUES]]}
        for kind, examples in found.items()
        if examples
    ]


def answers_of(
    folder: Path, record: RunRecord, rows: Sequence[Mapping[str, str]]
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The answers that the run keeps, and of one-label classes the true indices; None where there are none.

    Returns:
        float32 ``(N, C)`` and int ``(N,)``, in the order of ``split.csv``'s rows of the split that was measured.
    """
    try:
        answers = np.load(folder / PREDICTIONS, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None, None
    split, metrics = next(iter(record.metrics.items()), ("", {}))
    measured = [row for row in rows if row["split"] == split]
    if answers.ndim != 2 or len(answers) != len(measured):
        return None, None
    names = {name: i for i, name in enumerate(record.contract.names)}
    single = "confusion_matrix" in metrics and record.contract.kind == "probabilities"
    if not (single and answers.shape[1] == len(names) and all(row["label"] in names for row in measured)):
        return answers, None
    return answers, np.array([names[row["label"]] for row in measured], np.int64)


def _bins(answers: np.ndarray | None, labels: np.ndarray | None) -> list[dict[str, Any]]:
    if answers is None or labels is None or not len(labels):
        return []
    try:
        return reliability(answers, labels, bins=10)
    except KerasTransferError:  # outputs that are no probabilities
        return []


def _counts(record: RunRecord) -> dict[str, Any]:
    """Images of each split, and of each class in each split."""
    splits = record.data.summary["splits"]
    names = list(dict.fromkeys(name for split in splits.values() for name in split.get("per_class", {})))
    rows = [
        (name, [splits.get(split, {}).get("per_class", {}).get(name, 0) for split in SPLITS])
        for name in names
    ]
    return {
        "totals": [record.data.images(split) for split in SPLITS],
        "rows": rows[:MOST_CLASSES],
        "all": len(rows),
    }


def _per_class(metrics: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Rows of the table of classes or targets, the weakest first where there are many."""
    table = metrics.get("per_class") or metrics.get("per_target") or {}
    rows = [(name, row) for name, row in table.items() if isinstance(row, Mapping)]
    if len(rows) > MOST_CLASSES:
        rows.sort(key=_weakness)
    return rows[:MOST_CLASSES]


def _weakness(row: tuple[str, Mapping[str, Any]]) -> float:
    value = row[1].get("f1")
    return value if _is_number(value) else 2.0


def _plan(notes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The freeze plan of a network; empty where a task notes none, or something else."""
    plan = notes.get("plan")
    if not isinstance(plan, Mapping) or not {"parameters", "trainable", "batchnorm", "blocks"} <= plan.keys():
        return {}
    wanted = {"block", "layers", "parameters", "trainable", "rate"}
    blocks = plan["blocks"]
    fits = isinstance(blocks, list) and all(isinstance(b, Mapping) and wanted <= b.keys() for b in blocks)
    return plan if fits else {}


def _columns(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    keys = dict.fromkeys(key for _, row in rows for key in row)
    return [key for key in keys if any(_is_number(row.get(key)) for _, row in rows)]


def _shaded(names: Sequence[str], matrix: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "cells": [
                {"count": count, "share": round(count / max(sum(counts), 1), 3), "right": row == column}
                for column, count in enumerate(counts)
            ],
        }
        for row, (name, counts) in enumerate(zip(names, matrix, strict=True))
    ]


def _pairs(names: Sequence[str], matrix: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """Truth and answer that are confused most, most first."""
    counts = np.array(matrix, np.int64)
    of_truth = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:MOST_PAIRS]
    places = [divmod(int(place), len(names)) for place in order]
    return [
        {
            "truth": names[row],
            "answer": names[column],
            "count": int(counts[row, column]),
            "share": percent(counts[row, column] / of_truth[row]),
        }
        for row, column in places
        if counts[row, column]
    ]


def _plots(folder: Path) -> tuple[list[dict[str, str]], list[str]]:
    """The pictures that the training drew, as ``data:`` addresses, and the names of those that are too large."""
    shown: list[dict[str, str]] = []
    left_out: list[str] = []
    room = MOST_PLOTS
    for path in sorted((folder / PLOTS).glob("*.png")):
        if path.name in OWN_PLOTS:
            continue
        if path.stat().st_size > room:
            left_out.append(path.name)
            continue
        content = path.read_bytes()
        room -= len(content)
        address = "data:image/png;base64," + base64.b64encode(content).decode("ascii")
        shown.append({"title": path.stem.replace("_", " "), "address": address})
    return shown, left_out


def command(record: RunRecord, name: str) -> str:
    """The command line that asks for this run again; empty for data given from Python."""
    request = record.request
    if request.source is None:
        return ""
    words = ["keras-transfer", "train", str(request.source), "--output", name]
    if request.task != "classification":
        words += ["--task", request.task]
    words += ["--seed", str(request.settings.seed)]
    usual = TrainSettings()
    pairs = [
        (getattr(request.settings, group), getattr(usual, group))
        for group in ("data", "model", "fit", "gradient")
    ]
    for mine, default in pairs:
        words += _words(mine, to_dict(mine), to_dict(default))
    try:
        options = task_spec(request.task).options()
    except KerasTransferError:
        return shlex.join(words)
    return shlex.join(words + _words(options, request.options, to_dict(options)))


def _words(options: Any, values: Mapping[str, Any], usual: Mapping[str, Any]) -> list[str]:
    words: list[str] = []
    for info in option_infos(options):
        value = values.get(info.name, usual[info.name])
        if value == usual[info.name] or value is None:
            continue
        if info.type is bool and not info.multiple:
            words.append(info.flag if value else "--no-" + info.flag.removeprefix("--"))
        elif info.multiple and info.spelling.commas:
            words += [info.flag, ",".join(map(str, value))]
        elif info.multiple:
            words += [word for one in value for word in (info.flag, str(one))]
        else:
            words += [info.flag, str(value)]
    return words


def _sentences(found: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[str]:
    """What it is, how good, what to do next."""
    record: RunRecord = found["record"]
    train, images = record.data.images("train"), found["images"]
    network = f" on {record.backbone.name}" if record.backbone else ""
    strategy = record.contract.notes.get("strategy")
    how = f" ({strategy})" if isinstance(strategy, str) else ""
    lines = [f"A {record.contract.task} model{network}, trained{how} with {train} images."]
    if found["main_text"] != "-":
        line = f"{found['main'].replace('_', ' ').capitalize()} {found['main_text']}"
        lines.append(f"{line}, measured on the {images} {found['split']} images.")
    if found["split"] != "test" and found["split"]:
        lines.append(
            f"There is no test split: the {found['split']} images played a part in training, so the number flatters."
        )
    counted = {issue["kind"]: issue["count"] for issue in found["issues"]}
    if counted.get("leak"):
        lines.append(f"{_times(counted['leak'])} in several splits: split again before you trust the number.")
    if counted.get("conflict"):
        lines.append(f"{_times(counted['conflict'])} with different labels: correct them first.")
    weak = [
        (name, row["recall"])
        for name, row in found["per_class"]
        if _is_number(row.get("recall")) and row["recall"] < WEAK
    ]
    if weak:
        name, recall = min(weak, key=lambda row: row[1])
        lines.append(f"The weakest class is {name}, of whose images {percent(recall)} are found.")
    error = metrics.get("calibration_error")
    if _is_number(error) and error > BADLY_CALIBRATED and (images or 0) >= ENOUGH_TO_CALIBRATE:
        lines.append(
            f"Do not read its probabilities as chances: they are off by {percent(error)} on average."
        )
    if not counted.get("leak") and not counted.get("conflict"):
        look = "look at what it confuses below, then " if found["pairs"] else ""
        lines.append(f"Next: {look}export it with keras-transfer export.")
    return lines


def _times(count: int) -> str:
    return "One image occurs" if count == 1 else f"{count} images occur"


def bundle_facts(path: Path, record: RunRecord) -> dict[str, Any]:
    """What an export of a run measured, as its ``bundle.json`` says.

    Raises:
        UsageError: no bundle, or one of another model.
        RunError: it is damaged.
    """
    if not (path / BUNDLE).is_file():
        raise UsageError(
            f"{path} is not a bundle: it has no {BUNDLE}. A folder made by `keras-transfer export` is expected."
        )
    try:
        info = json.loads((path / BUNDLE).read_text(encoding="utf-8"))
        bundle = BundleRecord.parse(info)
    except (OSError, ValueError, DamagedError) as error:
        raise RunError(f"{path / BUNDLE} cannot be read ({error}). Export again.") from None
    mine, theirs = record.contract, bundle.contract
    if (mine.task, tuple(mine.names)) != (theirs.task, tuple(theirs.names)):
        raise UsageError(f"{path} is the export of another run: its task or its classes differ.")
    rows = [row for row in info.get("artefacts", []) if isinstance(row, Mapping)]
    return {
        "name": path.absolute().name,
        "metric": bundle.metric,
        "artefacts": [
            {
                "file": one.file,
                "precision": one.precision,
                "bytes": one.bytes,
                "passed": one.passed,
                "score": metric_text(bundle.metric, row.get(bundle.metric)),
                "difference": row.get("max_difference"),
                "milliseconds": row.get("milliseconds"),
                "reasons": "; ".join(map(str, row.get("reasons") or [])),
            }
            for one, row in zip(bundle.artefacts, rows, strict=False)
        ],
        "targets": bundle.targets,
    }
