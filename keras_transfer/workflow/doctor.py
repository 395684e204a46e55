"""Asking the quantization doctor about a run: the layers int8 hurts, and what keeping the worst in float gives."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer import progress
from keras_transfer.data.pipeline import batches
from keras_transfer.errors import UsageError
from keras_transfer.export import calibration
from keras_transfer.export.doctor import QuantizationDoctor
from keras_transfer.inference import KerasRunner
from keras_transfer.litert import LiteRTModel
from keras_transfer.run import Run
from keras_transfer.workflow.evaluate import rows_of
from keras_transfer.workflow.export import open_with_data

log = logging.getLogger("keras_transfer")
KEEP = (0, 1, 2, 4, 8)


def diagnose_quantization(
    run: str | Path | Run,
    *,
    keep: Sequence[int] = KEEP,
    whole: bool = False,
    data: Any = None,
    split: str | None = None,
    calibration_size: int = 100,
) -> dict[str, Any]:
    """Quantize a run's model to int8, examine every layer, and measure it with the worst layers in float.

    Args:
        run: a run folder with a classifier.
        keep: numbers of layers to keep in float, each measured.
        whole: plain int8: the first layers and the head, too (``export`` leaves them in float).
        data: see :func:`keras_transfer.workflow.export.export_run`.
        split: the images to measure on; default: ``val``, or ``test`` when there are none. The number of layers is
            chosen on them, so keep the test images for the export.
        calibration_size: training images, stratified.

    Returns:
        JSON-able: ``layers`` (``layer``, ``operator``, ``error`` in steps of the output's scale; the worst first) and
        ``trials`` (``keep``, ``accuracy``, ``agreement`` with Keras, ``bytes``; the first, ``keep`` None, is Keras).

    Raises:
        UsageError: no such run, or more layers than there are.
        DataError: the split holds no image.
        ExportError: the converter failed.
    """
    opened, _, table = open_with_data(run, data)
    if opened.record.request.task != "classification":
        raise UsageError(
            f"{opened.path} is not the run of a classifier; the doctor examines only classifiers so far."
        )
    if "deploy" in opened.record.contract.notes:
        log.warning(
            "%s was trained with --deploy int8: its export ships the int8 backbone the head was fitted on. What is "
            "examined here is one that is made anew, and --keep-float is not for this run.",
            opened.path,
        )
    preprocessing = opened.record.contract.preprocessing
    split = split or ("val" if len(table.indices("val")) else "test")
    rows = rows_of(table, split)
    if split == "val" and split in opened.learned_from:
        log.info(
            "The head has learned from the validation images, too: on new ones int8 loses more (--split test)."
        )
    seed = opened.record.request.settings.seed
    sample = calibration.calibration_rows(table, calibration_size, seed)
    model = opened.load_model()
    pixels = np.concatenate(list(batches(table, preprocessing, indices=rows)))
    labels = table.labels[rows]
    expected = KerasRunner(model).predict(pixels).argmax(axis=1)
    log.info("Examining the int8 model")
    doctor = QuantizationDoctor(
        model, lambda: batches(table, preprocessing, calibration.BATCH, indices=sample), whole=whole
    )
    if max(keep, default=0) > len(doctor.layers):
        doctor.convert(max(keep))  # refuses, before anything is measured
    trials: list[dict[str, Any]] = [
        {"keep": None, "accuracy": float(np.mean(expected == labels)), "agreement": 1.0, "bytes": None}
    ]
    for count in progress.track(sorted(set(keep)), "Measuring", total=len(set(keep))):
        content = doctor.convert(count)
        answers = LiteRTModel(content).predict(pixels).argmax(axis=1)
        trials.append(
            {
                "keep": count,
                "accuracy": float(np.mean(answers == labels)),
                "agreement": float(np.mean(answers == expected)),
                "bytes": len(content),
            }
        )
    layers = [
        {
            "layer": one.layer,
            "operator": one.operator,
            "error": one.error if np.isfinite(one.error) else None,
            "scale": one.scale,
        }
        for one in doctor.layers
    ]
    return {
        "run": str(opened.path),
        "whole": whole,
        "split": split,
        "images": len(rows),
        "layers": layers,
        "trials": trials,
    }
