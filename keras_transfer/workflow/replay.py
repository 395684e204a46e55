"""Repeating a run from what it recorded, and comparing: the proof that a result was no accident."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer import options as option_tools
from keras_transfer.errors import UsageError
from keras_transfer.run import HISTORY, Run, open_run
from keras_transfer.tasks.loading import task_of_run
from keras_transfer.workflow.train import train


def replay(run: Run | str | Path, *, output: str | Path | None = None) -> dict[str, Any]:
    """Train again with the recorded settings and data, and compare split, history, weights and metrics.

    Determinism: on the machine and with the package versions of the first run, all four are bit-identical. Another
    kind of processor, another number of cores or another TensorFlow may differ in the last digits, and from there in
    everything; the versions that differ are reported.

    Args:
        run: a run folder, or an opened run.
        output: where the repeated run is kept; by default it is compared and thrown away.

    Returns:
        JSON-able: ``identical`` (all below are), ``split``, ``history``, ``weights`` (bit-identical or not),
        ``determinism`` (what is promised), ``largest_weight_difference``,
        ``metrics`` {split: {metric: [first, again]}} of those that differ, ``versions``
        {package: [first, now]} of those that differ.

    Raises:
        UsageError: the run was trained on data given from Python, or its data are gone.
        RunError: not a run, or damaged.
    """
    run = run if isinstance(run, Run) else open_run(run)
    request = run.record.request
    if request.source is None:
        raise UsageError(
            f"{run.path} was trained on data given from Python, which cannot be found again. Train it again with the "
            "same data and compare the two run.json."
        )
    spec, _ = task_of_run(run)
    with tempfile.TemporaryDirectory() as temporary:
        again = train(
            request.source,
            output or Path(temporary) / "again",
            task=request.task,
            task_options=option_tools.from_dict(spec.options, dict(request.options)),
            settings=request.settings,
        )
        return _differences(run, again)


def _differences(run: Run, again: Run) -> dict[str, Any]:
    first, second = run.load_model().get_weights(), again.load_model().get_weights()
    shapes = [w.shape for w in first] == [w.shape for w in second]
    gaps = (
        [float(np.max(np.abs(a - b), initial=0.0)) for a, b in zip(first, second, strict=True)]
        if shapes
        else []
    )
    result: dict[str, Any] = {
        "run": str(run.path),
        "split": run.split_path.read_bytes() == again.split_path.read_bytes(),
        "history": _rows(run) == _rows(again),
        "weights": shapes and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True)),
        "largest_weight_difference": max(gaps, default=0.0) if shapes else None,
        "metrics": {
            split: differing
            for split, metrics in run.record.metrics.items()
            if (differing := _pairs(metrics, again.record.metrics.get(split, {})))
        },
        "determinism": again.record.determinism,
        "versions": _pairs(
            {**dict.fromkeys(again.record.versions), **run.record.versions}, again.record.versions
        ),
    }
    result["identical"] = (
        all(result[name] for name in ("split", "history", "weights")) and not result["metrics"]
    )
    return result


def _rows(run: Run) -> list[dict[str, str]]:
    path = run.path / HISTORY
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _pairs(first: Mapping[str, Any], again: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What differs."""
    return {name: [value, again.get(name)] for name, value in first.items() if again.get(name) != value}
