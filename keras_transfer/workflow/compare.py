"""Which backbone suits these images: a probe on each one's frozen features, the size and the speed of the result."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import keras
from scipy.special import softmax
from scipy.stats import binomtest

from keras_transfer import options as option_tools
from keras_transfer.backbone_specs import full_name
from keras_transfer.data import ImageTable
from keras_transfer.errors import (
    DataError,
    ExportError,
    KerasTransferError,
    UsageError,
    WeightsError,
    unknown_name,
)
from keras_transfer.evaluation.metrics import classification_metrics
from keras_transfer.evaluation.plots_compare import comparison_chart
from keras_transfer.export.measure import latency
from keras_transfer.features import extract
from keras_transfer.heads import add_head, split_head
from keras_transfer.inference import LiteRTRunner, engines
from keras_transfer.litert import convert
from keras_transfer.outputs import Outputs
from keras_transfer.setting_values import TrainValues
from keras_transfer.settings import ModelSettings, TrainSettings
from keras_transfer.tasks.loading import load_task
from keras_transfer.training.probe import fit_probe
from keras_transfer.training.transferability import logme
from keras_transfer.workflow.train import backbone_for, preprocessing_for

log = logging.getLogger("keras_transfer")

METRICS = ("accuracy", "balanced_accuracy", "macro_f1")
REPORT, CHART = "compare.json", "compare.png"
CONFIDENCE = 0.95
UNUSABLE = (WeightsError, UsageError, ExportError)
"""Errors of one backbone: no weights, images too small for it, no conversion. The data were checked before."""


def compare(
    source: Any,
    backbones: Sequence[str],
    *,
    settings: TrainSettings | None = None,
    output: str | Path | None = None,
    metric: str = "accuracy",
    overwrite: bool = False,
    **values: Unpack[TrainValues],
) -> dict[str, Any]:
    """Fit a linear classifier on the frozen features of each backbone, and measure quality, size and speed.

    The images are read once and each network sees each image once: what the feature cache knows is not computed
    again, and a later ``train`` with the winner starts from the same cache.

    Args:
        source: a folder, a CSV, ``tfds:NAME``, ``(images, labels)`` arrays, or a ``tf.data.Dataset``.
        backbones: names of the catalog; ``NAME=WEIGHTS`` gives one of them its own weights (``none`` or a file).
        settings: everything else (``model.backbone`` and the training settings play no part); or give single
            settings by name (``image_size=96, weights="none", seed=1``).
        output: a folder for ``compare.json`` and ``compare.png``; those of an earlier comparison are replaced.
        metric: ``accuracy``, ``balanced_accuracy`` or ``macro_f1``, all in [0, 1].
        overwrite: replace files of these names that no comparison made.

    Returns:
        JSON-able: ``data``, ``fingerprint``, ``classes``, ``images`` {split: count}, ``metric``, ``settings``
        (of data, images, engine and seed) and ``rows``, one a backbone, the best on VALIDATION first (equal ones:
        the smaller file first):

        - ``backbone``, ``weights``, ``image_size`` [H, W], ``feature_dim``;
        - ``validation``, ``test``: the metric. The validation images choose the regularisation and the ranking, so
          only ``test`` is unbiased; ``test_accuracy`` with ``test_interval``, its 95 % Wilson interval [low, high];
        - ``logme``: of the training features, see :func:`~keras_transfer.training.transferability.logme`;
        - ``parameters`` of the classifier, ``bytes`` of its float32 ``.tflite``, ``milliseconds``: median latency of
          one image in that file, on all cores of this machine;
        - ``engine``, ``engine_precision``, ``computed``, ``cached``, ``extraction_seconds``: how the features were had;
        - ``front``: no other backbone is both as fast and as accurate on the test images (Pareto);
        - ``error``: None; a backbone that could not be used has its sentence here and only ``backbone`` and
          ``weights`` besides, and comes last.

    Raises:
        UsageError: no or unknown backbones, an unknown metric, data that are no single-label classes, or a
            file in the way.
        DataError: the data cannot be used, or the validation or test split is empty.
        KerasTransferError: no backbone could be used: the error of the first.
    """
    if settings is not None and values:
        raise UsageError("Give either settings= or single settings by name, not both.")
    settings = settings or TrainSettings.of(**values)
    for group in (settings.data, settings.model, settings.fit):
        option_tools.check(group)
    engines.require(settings.fit)
    if metric not in METRICS:
        raise unknown_name("metric to compare by", str(metric), METRICS)
    candidates = _candidates(backbones, settings.model)
    folder = None if output is None else Path(output)
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UsageError(f"The output {folder} is a file; a folder for {REPORT} and {CHART} is expected.")
    places = Outputs([source], overwrite=overwrite)
    if folder is not None:
        places.check(folder / REPORT, folder / CHART)
    _, task = load_task("classification")
    table = task.load_data(source, settings.data, settings.seed)
    images = {split: len(table.indices(split)) for split in ("train", "val", "test")}
    for split, use in (("train", "learn from"), ("val", "rank by"), ("test", "measure on")):
        if not images[split]:
            raise DataError(
                f"{table.source} has no {split} images to {use}. A comparison needs all three splits: change "
                "--val-fraction and --test-fraction."
            )
    rows: list[dict[str, Any]] = []
    failures: list[tuple[KerasTransferError, dict[str, Any]]] = []
    for model_settings in candidates:
        log.info("%s ...", model_settings.backbone)
        about = {"backbone": model_settings.backbone, "weights": model_settings.weights}
        try:
            row = _measure(table, replace(settings, model=model_settings), metric)
        except UNUSABLE as error:
            failures.append((error, {**about, "error": str(error)}))
        else:
            rows.append({**about, **row, "error": None})
    if not rows:
        raise _none_worked([error for error, _ in failures])
    rows.sort(key=lambda row: (-row["validation"], row["bytes"]))
    for row in rows:
        row["front"] = not any(_dominates(other, row) for other in rows)
    every = [*rows, *(row for _, row in failures)]
    result = {
        "kind": "keras-transfer comparison",
        "data": table.source,
        "fingerprint": table.fingerprint(),
        "classes": list(table.classes),
        "images": images,
        "metric": metric,
        "settings": _settings(settings),
        "rows": every,
    }
    if folder is not None:
        text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
        places.write(folder / REPORT, text + "\n")
        with places.writing(folder / CHART) as place:
            comparison_chart(every, place)
    return result


def _candidates(backbones: Sequence[str], settings: ModelSettings) -> list[ModelSettings]:
    """The model settings of every backbone named, in order, each once."""
    if isinstance(backbones, str) or not all(isinstance(entry, str) for entry in backbones):
        raise UsageError(f"backbones is {backbones!r}; a list of names is expected.")
    found: dict[ModelSettings, None] = {}
    for entry in backbones:
        name, _, weights = entry.partition("=")
        chosen = replace(settings, backbone=full_name(name.strip()), weights=weights or settings.weights)
        found.setdefault(chosen)
    if not found:
        raise UsageError("No backbone was named; `keras-transfer backbones` lists them.")
    return list(found)


def _settings(settings: TrainSettings) -> dict[str, Any]:
    """What the comparison depends on but for the backbone; the settings of a training play no part."""
    shared = {**option_tools.to_dict(settings.data), **option_tools.to_dict(settings.model)}
    shared = {name: value for name, value in shared.items() if name not in ("backbone", "weights")}
    engine = {"engine": settings.fit.engine, "engine_precision": settings.fit.engine_precision}
    return {**shared, **engine, "seed": settings.seed}


def _measure(table: ImageTable, settings: TrainSettings, metric: str) -> dict[str, Any]:
    """One row without its name. Raises ``WeightsError``, ``UsageError`` or ``ExportError`` of this backbone."""
    keras.utils.set_random_seed(settings.seed)
    wanted = settings.model
    backbone = backbone_for(wanted)
    size = tuple(backbone.input_shape[1:3])
    preprocessing = preprocessing_for(wanted, size)
    model = add_head(backbone, len(table.classes), seed=settings.seed)
    extractor, head = split_head(model)
    found = extract(
        table,
        extractor,
        preprocessing=preprocessing,
        engine=settings.fit.engine,
        engine_precision=settings.fit.engine_precision,
    )
    train, val, test = (table.indices(split) for split in ("train", "val", "test"))
    fit_probe(
        model,
        found.values,
        table.labels,
        train=train,
        val=val,
        sample_weight=table.weights,
        seed=settings.seed,
    )
    outputs = softmax(head.predict(found.values, batch_size=1024, verbose=0), axis=1)
    on_val = classification_metrics(outputs[val], table.labels[val], table.classes)
    on_test = classification_metrics(outputs[test], table.labels[test], table.classes)
    content = convert(model)
    return {
        "image_size": list(size),
        "feature_dim": int(found.values.shape[1]),
        "validation": on_val[metric],
        "test": on_test[metric],
        "test_accuracy": on_test["accuracy"],
        "test_interval": _interval(on_test["accuracy"], len(test)),
        "logme": logme(found.values[train], table.labels[train]),
        "parameters": int(model.count_params()),
        "bytes": len(content),
        "milliseconds": latency(LiteRTRunner(content), preprocessing),
        "engine": found.engine,
        "engine_precision": found.engine_precision,
        "computed": found.computed,
        "cached": found.cached,
        "extraction_seconds": round(found.seconds, 3),
    }


def _interval(accuracy: float, images: int) -> list[float]:
    """Wilson 1927, Probable Inference, the Law of Succession, and Statistical Inference."""
    ends = binomtest(round(accuracy * images), images).proportion_ci(CONFIDENCE, method="wilson")
    return [float(ends.low), float(ends.high)]


def _dominates(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """At least as fast and as accurate, and better in one of the two."""
    a, b = ((row["milliseconds"], -row["test_accuracy"]) for row in (one, other))
    return a != b and a[0] <= b[0] and a[1] <= b[1]


def _none_worked(errors: Sequence[KerasTransferError]) -> KerasTransferError:
    if len(errors) == 1:
        return errors[0]
    sentences = "\n".join(f"- {error}" for error in errors)
    return type(errors[0])(f"None of the {len(errors)} backbones could be used:\n{sentences}")
