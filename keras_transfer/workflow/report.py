"""One page about a run, or about several side by side: a file that any browser opens, offline."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer.checking.page import templates, thumbnail
from keras_transfer.data import ImageTable
from keras_transfer.decoding import ImageError
from keras_transfer.errors import KerasTransferError, RunError, UsageError
from keras_transfer.evaluation.gradcam import GradCam, overlay
from keras_transfer.outputs import Outputs
from keras_transfer.paths import atomic_write
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.records import RunRecord
from keras_transfer.run import REPORT, Run, open_run
from keras_transfer.workflow.evaluate import run_table
from keras_transfer.workflow.report_facts import (
    answers_of,
    bundle_facts,
    facts_of,
    metric_text,
    split_rows,
)

log = logging.getLogger("keras_transfer")

EXAMPLES = 8
"""Of the surest mistakes, and of the least sure hits."""
MOST_KEPT = 32_000_000
"""Bytes of answers that a run keeps."""
_TEMPLATE = "report.html.j2"
_GONE = "the data cannot be read here"


def report(
    runs: Run | str | Path | Sequence[Run | str | Path],
    output: str | Path | None = None,
    *,
    bundles: Sequence[str | Path] = (),
    overwrite: bool = False,
) -> Path:
    """Write one HTML page about a run, or about several side by side.

    Nothing is measured again: the page tells what the runs hold. Only the pictures of a classifier's surest mistakes
    and least sure hits need the data; where those are gone the page says so.

    Args:
        runs: run folders, or opened runs.
        output: the page; by default ``report.html``, in the folder of a single run, else here.
        bundles: exports of the run, to tell what they measured; for a single run.
        overwrite: replace a file that this tool did not write.

    Returns:
        Where the page is.

    Raises:
        UsageError: no run was given, one is no run folder or has not ended, a bundle is none of the run, or a file is
            in the way.
        RunError: a run or a bundle is damaged, or the page cannot be written.
    """
    given = [runs] if isinstance(runs, (Run, str, os.PathLike)) else list(runs)
    if not given:
        raise UsageError("No run was given; at least one folder made by `keras-transfer train` is expected.")
    if bundles and len(given) > 1:
        raise UsageError(
            f"Bundles were given for {len(given)} runs; give them with the one run they were made of."
        )
    opened = [one if isinstance(one, Run) else open_run(one) for one in given]
    single = opened[0].path / REPORT if len(opened) == 1 else Path(REPORT)
    path = single if output is None else Path(output)
    own = len(opened) == 1 and output is None and REPORT in opened[0].info.get("files", ())
    read = [run.path for run in opened if path.resolve() != (run.path / REPORT).resolve()]
    places = Outputs(read, overwrite=overwrite or own)
    places.check(path)
    exports = [bundle_facts(Path(bundle), opened[0].record) for bundle in bundles]
    told = []
    for run in opened:
        facts = facts_of(run.path, run.path.absolute().name, run.record)
        facts.update(exports=exports, **_examples_of_run(run))
        told.append(facts)
    try:
        places.write(path, page(told))
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error.strerror}). Choose another --output.") from None
    return path


def is_kept(shape: tuple[int, ...], dtype: str) -> bool:
    """Whether a run keeps answers of this shape, images first: one row of numbers an image, and not too many."""
    return len(shape) == 2 and "float" in dtype and 4 * math.prod(shape) <= MOST_KEPT


def write_beside(folder: Path, target: Path, record: RunRecord, table: ImageTable) -> None:
    """The page of a training that ends, with pictures but without heat maps. Never fails it: a warning says why not."""
    try:
        facts = facts_of(folder, target.name, record)
        split = next(iter(record.metrics), "train")
        found = _examples(folder, record, lambda: table.take(table.indices(split)), None)
        atomic_write(folder / REPORT, page([{**facts, "exports": [], **found}]))
    except Exception as error:  # noqa: BLE001 - the training is done; no page is worth losing it
        log.warning("The report was not written (%s: %s); the run is complete.", type(error).__name__, error)


def renew(run: Run, bundle: Path, table: ImageTable) -> None:
    """The page of a run once more, with what an export of it measured. Never fails the export: a warning says why not.

    A page that the run did not write is left alone, and so is a run without one.

    Args:
        bundle: the export. table: the run's images, with its splits.
    """
    if REPORT not in run.info.get("files", ()):
        return
    try:
        facts = facts_of(run.path, run.path.absolute().name, run.record)
        split = next(iter(run.record.metrics), "train")
        found = _examples(run.path, run.record, lambda: table.take(table.indices(split)), None)
        exports = [bundle_facts(bundle, run.record)]
        atomic_write(run.path / REPORT, page([{**facts, "exports": exports, **found}]))
    except Exception as error:  # noqa: BLE001 - the export is done; no page is worth losing it
        log.warning("%s was not renewed (%s: %s).", run.path / REPORT, type(error).__name__, error)


def page(told: Sequence[Mapping[str, Any]]) -> bytes:
    """The page of one run or several, UTF-8."""
    text = (
        templates(Path(__file__).parent)
        .get_template(_TEMPLATE)
        .render(
            runs=told,
            title=f"Report of {told[0]['name']}" if len(told) == 1 else f"{len(told)} runs side by side",
            differing=_differing([facts["record"] for facts in told]),
            number=metric_text,
            size=_size,
            duration=_duration,
        )
    )
    return text.encode("utf-8", "replace")


def _examples_of_run(run: Run) -> dict[str, Any]:
    split = next(iter(run.record.metrics), "train")

    def measured() -> ImageTable:
        table = run_table(run)
        return table.take(table.indices(split))

    return _examples(run.path, run.record, measured, run)


def _examples(folder: Path, record: RunRecord, measured: Any, run: Run | None) -> dict[str, Any]:
    """The surest mistakes and the least sure hits of a classifier, with pictures where the data are.

    ``run``: gives the network for heat maps; None: pictures alone.
    """
    rows = [row for row in split_rows(folder) if row["split"] in record.metrics]
    answers, labels = answers_of(folder, record, split_rows(folder))
    if answers is None or labels is None:
        return {"mistakes": [], "hits": [], "no_pictures": "", "heat": False}
    best, sure = answers.argmax(axis=1), answers.max(axis=1)
    wrong, right = np.flatnonzero(best != labels), np.flatnonzero(best == labels)
    mistakes = wrong[np.argsort(-sure[wrong], kind="stable")][:EXAMPLES]
    hits = right[np.argsort(sure[right], kind="stable")][:EXAMPLES]
    table, reason = _table(measured, [row["sha256"] for row in rows])
    cam, preprocessing = None, Preprocessing.from_dict(dict(record.contract.pixels))
    if run is not None and table is not None:
        cam = _cam(run)
    names = record.contract.names

    def example(i: int) -> dict[str, Any]:
        picture, heat = _pictures(table, i, cam, preprocessing, int(best[i]))
        return {
            "path": rows[i]["path"],
            "truth": names[labels[i]],
            "answer": names[best[i]],
            "probability": f"{100 * float(sure[i]):.1f} %",
            "picture": picture,
            "heat": heat,
        }

    return {
        "mistakes": [example(int(i)) for i in mistakes],
        "hits": [example(int(i)) for i in hits],
        "no_pictures": reason,
        "heat": cam is not None,
    }


def _table(measured: Any, digests: list[str]) -> tuple[ImageTable | None, str]:
    """The images as they were measured; or why there are none."""
    try:
        table = measured()
    except (KerasTransferError, OSError):
        return None, _GONE
    if list(table.sha256) != digests:
        return None, "the data have changed since the training"
    return table, ""


def _cam(run: Run) -> GradCam | None:
    try:
        return GradCam(run.load_model())
    except UsageError:  # a network without a map to look at
        return None


def _pictures(
    table: ImageTable | None, i: int, cam: GradCam | None, preprocessing: Preprocessing, column: int
) -> tuple[str, str]:
    if table is None:
        return "", ""
    try:
        pixels = table.images.load(i, preprocessing)  # at the end of a training they are in memory, mostly
        heat = "" if cam is None else thumbnail(overlay(pixels, cam(pixels, column)))
        return thumbnail(pixels), heat
    except (ImageError, OSError, UsageError):
        return "", ""


def _differing(records: Sequence[RunRecord]) -> list[tuple[str, list[str]]]:
    """Settings and options that are not the same in all runs: name and the value of each."""
    if len(records) < 2:
        return []
    asked = [
        {"data": record.data.source, **record.request.settings.flat(), **record.request.options}
        for record in records
    ]
    names = dict.fromkeys(name for one in asked for name in one)
    rows = [(name, [_text(one.get(name)) for one in asked]) for name in names]
    return [(name.replace("_", " "), values) for name, values in rows if len(set(values)) > 1]


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _size(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:.2f} MB"


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
