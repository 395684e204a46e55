"""Images that a run does not know: the measure is learned after the training, kept beside the model, asked with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from sklearn.metrics import roc_auc_score, roc_curve

from keras_transfer.data import ImageTable, folder
from keras_transfer.data.unlabelled import unlabelled_table
from keras_transfer.errors import RunError, UsageError
from keras_transfer.features import extract
from keras_transfer.heads import LOGITS, add_head, features_input
from keras_transfer.inference import KerasRunner, outputs
from keras_transfer.tasks.base import TaskSpec, TrainingContext
from keras_transfer.training.probe import refit_probe
from keras_transfer.training.unfamiliarity import NEED_LOGITS, fit_detector
from keras_transfer.training.unfamiliarity_layers import Head
from keras_transfer.workflow.loaded_model import LoadedModel

FILE = "unfamiliarity.keras"
"""In a run folder: features ``(B, D)`` to one float."""
NOTE = "unknown"
"""What the notes of a training call it: the method, its threshold, and what they were chosen on."""


def refuse_unknown(spec: TaskSpec, options: Any, method: str) -> None:
    """``UsageError`` where a method does not go with a task and its head; nothing is computed."""
    if method not in (*NEED_LOGITS, "relative"):
        return
    if spec.name != "classification":
        raise UsageError(
            f"--unknown {method} compares classes, and the task {spec.name} has no single class an image. Use auto, "
            "mahalanobis or knn."
        )
    if method in NEED_LOGITS and (options.head != "linear" or options.hidden):
        raise UsageError(
            f"--unknown {method} needs the logits of a linear head without hidden layers. Use auto, mahalanobis or knn."
        )


def learn_unknown(
    model: keras.Model, data: ImageTable, context: TrainingContext, notes: Mapping[str, Any]
) -> dict[str, Any]:
    """Fit a measure of unfamiliarity on the features of a trained model, and put it into the run folder.

    Args:
        model: trained.
        notes: of its training.

    Returns:
        What is noted, JSON-able.

    Raises:
        UsageError, DataError: the model or the images do not allow it; the message says why.
    """
    fit, seed = context.settings.fit, context.settings.seed
    train, val = data.indices("train"), data.indices("val")
    rows = np.concatenate([train, val])
    if len(model.output.shape) != 2:
        raise UsageError(
            f"--unknown {fit.unknown}: the task {context.task} gives no features of a whole image."
        )
    features = extract(
        data,
        keras.Model(model.inputs, features_input(model)),
        preprocessing=context.preprocessing,
        engine=fit.engine,
        engine_precision=fit.engine_precision,
        indices=rows,
    ).values
    labels = data.labels[rows] if data.label_mode == "classes" else None
    head = None if labels is None else _head(model)
    inner, held_out = np.arange(len(train)), np.arange(len(train), len(rows))
    again = notes.get("refit", {}).get("images", 0) > 0
    strength = notes.get("probe", {}).get("C")

    def before() -> Head | None:
        """A head that has not learned from the validation images."""
        if not again or strength is None or head is None or labels is None:
            return head
        entry = keras.Input((features.shape[1],))
        other = add_head(keras.Model(entry, keras.layers.Identity()(entry)), head[0].shape[1])
        refit_probe(other, features, labels, rows=inner, c=strength)
        kernel, bias = other.get_layer(LOGITS).get_weights()
        value = notes.get("temperature", {}).get("value", 1.0)
        return kernel / value, bias / value

    found = fit_detector(
        fit.unknown,
        features,
        labels,
        train=inner,
        val=held_out,
        head=head,
        before=before,
        reject=fit.reject,
        seed=seed,
    )
    found.measure.model.save(context.run.path / FILE)
    context.say(
        f"Unknown images: {found.method} ({found.chosen_on}); the threshold is from {found.threshold_from}. Exported "
        "files do not carry it yet."
    )
    return found.to_dict()


def _head(model: keras.Model) -> Head | None:
    """Kernel and bias of a head that is one Dense layer on the features; None of any other."""
    found = [layer for layer in model.layers if layer.name == LOGITS]
    if not found or not isinstance(found[0], keras.layers.Dense):
        return None
    kernel, bias = found[0].get_weights()
    hidden = any(layer.name.startswith("head_hidden_") for layer in model.layers)
    return None if hidden or len(kernel) != features_input(model).shape[-1] else (kernel, bias)


@dataclass(frozen=True, eq=False)
class Watch:
    """A model that tells how unfamiliar an image is.

    Attributes:
        predict: pixels ``(B, H, W, 3)`` to ``(B, C + 1)``: the model's outputs, and unfamiliarity as the last.
        method: of the measure.
        threshold: what exceeds it is unknown.
    """

    predict: Callable[[np.ndarray], np.ndarray]
    method: str
    threshold: float

    def unknown(self, unfamiliarity: np.ndarray) -> np.ndarray:
        """Which images are unknown, ``(B,)``."""
        return unfamiliarity > self.threshold

    def told(self, unfamiliarity: np.ndarray) -> list[dict[str, Any]]:
        """What an answer says of it: the number, whether it is an answer, and why not."""
        return [
            {"unfamiliarity": round(float(value), 6), "answered": not strange}
            | ({"reason": "unknown"} if strange else {})
            for value, strange in zip(unfamiliarity, self.unknown(unfamiliarity), strict=True)
        ]


def watch_of(loaded: LoadedModel) -> Watch | None:
    """Of a run that was trained with ``unknown``; None of any other model.

    Raises ``RunError`` where the run's measure is gone or damaged.
    """
    note = loaded.contract.notes.get(NOTE)
    model = loaded.keras_model
    if loaded.run is None or model is None or not note:
        return None
    path = loaded.run.path / FILE
    try:
        measure = keras.models.load_model(path, compile=False)
        threshold, method = float(note["threshold"]), str(note["method"])
        strange = measure(features_input(model))
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = "is missing" if not path.is_file() else f"cannot be used ({str(error).splitlines()[0]})"
        raise RunError(f"{path} {why}. Train again, or restore the file.") from None
    both = keras.Model(model.inputs, keras.layers.Concatenate()([model.output, strange]))
    return Watch(KerasRunner(both).predict, method, threshold)


def rejection(watch: Watch, unfamiliarity: np.ndarray, decided: Any, data: ImageTable) -> dict[str, Any]:
    """What of measured images is withheld.

    Args:
        unfamiliarity: ``(N,)``. decided: the task's decisions ``(N,)``; they count where labels are classes.

    Returns:
        ``method``, ``threshold``, ``unknown`` (images), and of classes ``right_withheld`` (right answers that are not
        given), ``accuracy_answered`` (None: nothing was answered).
    """
    strange = watch.unknown(unfamiliarity)
    found: dict[str, Any] = {
        "method": watch.method,
        "threshold": watch.threshold,
        "images": len(strange),
        "unknown": int(strange.sum()),
    }
    if data.label_mode == "classes" and decided is not None:
        right = np.asarray(decided) == data.labels
        found["right_withheld"] = int((right & strange).sum())
        found["accuracy_answered"] = float(right[~strange].mean()) if (~strange).any() else None
    return found


def outside_metrics(
    watch: Watch | None, loaded: LoadedModel, path: str | Path, familiar: np.ndarray
) -> dict[str, Any]:
    """How well images that are of no class are told from familiar ones.

    Args:
        path: a folder of images.
        familiar: unfamiliarity ``(N,)`` of images that the model should know.

    Returns:
        ``images``, ``auroc``, ``fpr_at_95_tpr`` (familiar images refused where 95 % of the others are), ``accepted``
        (share that is still answered) and ``accepted_images``: the most familiar of them.

    Raises:
        UsageError: the model cannot tell, or there is no image.
    """
    if watch is None:
        raise UsageError(
            f"{loaded.name} does not tell which images it does not know: --outside needs a run that was trained with "
            "--unknown auto (or mahalanobis, relative, knn, energy, vim, joint)."
        )
    where = Path(path)
    if not where.is_dir():
        raise UsageError(f"--outside {where}: no such folder. Give a folder of images that are of no class.")
    names = folder.find_images(where).images
    if not names:
        raise UsageError(f"--outside {where} holds no image. Give a folder of images that are of no class.")
    paths = [where / name for name in names]
    table = unlabelled_table(paths, str(where))
    answers = np.concatenate(list(outputs(watch.predict, table, loaded.preprocessing, "Looking outside")))
    strange = answers[:, -1]
    truth = np.repeat([0, 1], [len(familiar), len(strange)])
    values = np.concatenate([familiar, strange])
    wrong, hit, _ = roc_curve(truth, values)
    accepted = ~watch.unknown(strange)
    nearest = [int(row) for row in np.argsort(strange, kind="stable") if accepted[row]][:5]
    return {
        "source": str(where),
        "images": len(strange),
        "auroc": float(roc_auc_score(truth, values)),
        "fpr_at_95_tpr": float(wrong[np.argmax(hit >= 0.95)]),
        "accepted": float(accepted.mean()),
        "accepted_images": [table.images.name(row) for row in nearest],
    }
