"""What may be exported, checked before any work is done."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import keras

from keras_transfer.data.table import SPLITS, ImageTable
from keras_transfer.errors import UsageError, require_utf8, unknown_name
from keras_transfer.export.parity import Judge
from keras_transfer.inference import KerasRunner
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.records import ExportOptions, layout
from keras_transfer.records.export_options import CALIBRATED, PIXELS, distinct

log = logging.getLogger("keras_transfer")


@dataclass(frozen=True)
class Target:
    """An artefact to make: its name in the folder and its precision."""

    file: str
    precision: str


def plan_targets(formats: Sequence[str], precisions: Sequence[str]) -> list[Target]:
    """The artefacts of an export, each once, in the order asked for. The names are known ones."""
    targets = []
    for name in dict.fromkeys(formats):
        if name == "keras":
            targets.append(Target(layout.KERAS, "float32"))
        elif name == "saved-model":
            targets.append(Target(layout.SAVED_MODEL, "float32"))
        else:
            targets += [Target(layout.TFLITE[precision], precision) for precision in distinct(precisions)]
    return targets


def check_generator(options: ExportOptions) -> None:
    """Raise ``UsageError`` where a model that generates is asked to take pixels: its inputs are none."""
    if options.input_range != PIXELS:
        raise UsageError(
            f"input_range is {options.input_range}, and a model that makes images takes no pixels. Leave it out."
        )
    integers = [name for name in (*options.asked, *options.candidates) if name in CALIBRATED]
    if integers or options.uint8_input:
        what = ", ".join(integers) or "uint8 input"
        raise UsageError(
            f"{what}: a model that makes images takes numbers, not uint8 pixels. Choose none, float16 or dynamic."
        )


def check_model(
    model: keras.Model, preprocessing: Preprocessing, judge: Judge, table: ImageTable
) -> KerasRunner:
    """The model, ready to run, if it, its outputs' names, its preprocessing and the data fit; else ``UsageError``."""
    classes = judge.names
    reference = KerasRunner(model)
    shape = (*preprocessing.size, 3)
    if judge.draw is not None:
        drawn = judge.draw(table.take([0])).shape
        if tuple(model.inputs[0].shape)[1:] != drawn[1:]:
            raise UsageError(
                f"The model {model.name!r} takes {tuple(model.inputs[0].shape)}, and its task draws inputs of shape "
                f"{(None, *drawn[1:])}. Train it again."
            )
    elif len(model.inputs[0].shape) == 4 and model.inputs[0].shape[-1] != 3:
        raise UsageError(
            f"The model {model.name!r} takes images of {model.inputs[0].shape[-1]} channels; RGB images of 3 channels "
            "are expected. Put a layer in front of it that makes its channels from RGB, such as a grey value repeated."
        )
    elif tuple(model.inputs[0].shape)[1:] != shape:
        raise UsageError(
            f"The model {model.name!r} takes {tuple(model.inputs[0].shape)}, and the preprocessing gives "
            f"{(None, *shape)}. An exported model needs a fixed image size: build it with that size."
        )
    if tuple(model.outputs[0].shape)[1:] != judge.shape or judge.shape[-1] != len(classes):
        raise UsageError(
            f"The model {model.name!r} gives {tuple(model.outputs[0].shape)}, and there are {len(classes)} class "
            f"names; {(None, *judge.shape[:-1], len(classes))} is expected."
        )
    for name in classes:
        require_utf8("class name", name)
        if not name.strip() or len(name.splitlines()) != 1:
            raise UsageError(
                f"The class name {name!r} does not fit on one line of {layout.LABELS}; rename it."
            )
    if len(set(classes)) != len(classes):
        raise UsageError("Two classes have the same name; rename one.")
    if not judge.classifies:
        return reference
    if table.label_mode != "classes":
        raise UsageError(
            f"The data hold {table.label_mode} labels; artefacts are compared on one class per image."
        )
    if tuple(table.classes) != classes:
        raise UsageError(
            f"The data have the classes {_few(table.classes)}, and the model {_few(classes)}. They must be the same, "
            "in the same order."
        )
    return reference


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" ... ({len(names)})" if len(names) > 6 else "")


def choose_split(table: ImageTable, asked: str | None) -> str:
    """The split artefacts are compared on: as asked, or test, or val. ``UsageError`` when it has no images."""
    if asked is not None and asked not in SPLITS:
        raise unknown_name("split", asked, SPLITS)
    for split in (asked,) if asked else ("test", "val"):
        if len(table.indices(split)):
            if asked is None and split == "val":
                log.warning("There are no test images: the artefacts are compared on the val images.")
            return split
    if asked is not None:
        raise UsageError(f"The data have no images in the split {asked!r} to compare the artefacts on.")
    raise UsageError(
        "There are neither test nor val images to compare the artefacts on. Split the data with a test part, or "
        "name another split (parity_split='train')."
    )
