"""Seeing what a classifier looks at: one picture per image, with the proof that the place matters."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_transfer.decoding import ImageError
from keras_transfer.errors import UsageError, unknown_name
from keras_transfer.evaluation.gradcam import GradCam, masking, overlay
from keras_transfer.outputs import Outputs
from keras_transfer.workflow.loaded_model import LoadedModel, open_model
from keras_transfer.workflow.predict import find_images


def explain(
    model: Any,
    images: Sequence[str | Path],
    output: str | Path | None = None,
    *,
    label: str | None = None,
    layer: str | None = None,
    labels: str | Path | None = None,
    overwrite: bool = False,
) -> Iterator[dict[str, Any]]:
    """Grad-CAM for each image: where the model sees a class, drawn over the image.

    Args:
        model: a run folder, a ``.keras`` file, a Keras model, or what
            :func:`keras_transfer.workflow.as_is.as_is` gives.
        images: files, or folders that are searched.
        output: a folder for the pictures: the image as the model sees it, and the same with its heat map.
        label: the class asked about; by default the one with the highest output.
        layer: whose map is looked at; by default the last before the head.
        labels: a text file with the class names, where nothing beside the model tells them.
        overwrite: replace pictures that are there; never an image that is asked about.

    Yields:
        ``path``, ``label``, ``probability``, ``hidden`` and ``elsewhere`` (the output with the highlighted fifth of the
        image blurred away, and with as much elsewhere), ``layer``, ``picture``; or ``path`` and ``error``.

    Raises:
        UsageError: a model without gradients (``.tflite``, SavedModel) or one that is no classifier, no such class,
            layer or image, or a file in the way of a picture.
    """
    paths = find_images(images)
    pictures = [None] * len(paths) if output is None else _pictures(paths, Path(output))
    places = Outputs(paths, overwrite=overwrite)
    places.check(*(picture for picture in pictures if picture is not None))
    loaded = open_model(model, labels=labels)
    if loaded.keras_model is None:
        raise UsageError(
            f"{loaded.name} gives no gradients; a run folder, a .keras file or a pretrained network is expected."
        )
    if loaded.kind != "probabilities":
        raise UsageError(
            f"{loaded.name} gives {loaded.kind}, not probabilities of classes (its task is {loaded.task}); "
            "Grad-CAM explains a classifier."
        )
    shape = tuple(loaded.keras_model.output_shape)[1:]
    if len(shape) != 1:
        raise UsageError(
            f"{loaded.name} gives {' x '.join(map(str, shape))} numbers per image (its task is {loaded.task}), not "
            "one probability per class; Grad-CAM explains a classifier."
        )
    cam = GradCam(loaded.keras_model, layer)
    columns = shape[0]
    names = loaded.names or tuple(str(i) for i in range(columns))
    if label is not None and label not in names:
        raise unknown_name("class", label, names)
    return _explained(loaded, cam, names, list(zip(paths, pictures, strict=True)), places, label)


def _explained(
    loaded: LoadedModel,
    cam: GradCam,
    names: tuple[str, ...],
    asked: list[tuple[Path, Path | None]],
    places: Outputs,
    label: str | None,
) -> Iterator[dict[str, Any]]:
    for path, picture in asked:
        try:
            pixels = loaded.preprocessing.load(path)
        except ImageError as error:
            yield {"path": str(path), "error": str(error)}
            continue
        best = int(np.argmax(loaded.predict(pixels[None])[0]))
        column = best if label is None else names.index(label)
        heat = cam(pixels, column)
        found = masking(loaded.predict, pixels, heat, column)
        if picture is not None:
            both = np.concatenate([pixels, overlay(pixels, heat)], axis=1)
            buffer = io.BytesIO()
            Image.fromarray(both).save(buffer, "PNG")
            places.write(picture, buffer.getvalue())
        yield {
            "path": str(path),
            "label": names[column],
            "probability": found["output"],
            "hidden": found["hidden"],
            "elsewhere": found["elsewhere"],
            "layer": cam.layer,
            "picture": None if picture is None else str(picture),
        }


def _pictures(paths: list[Path], output: Path) -> list[Path | None]:
    """Of each image a picture of its name; of a second image of that name, another."""
    taken: set[str] = set()
    return [output / f"{_unused(path.stem, taken)}.png" for path in paths]


def _unused(stem: str, taken: set[str]) -> str:
    name, number = stem, 1
    while name.casefold() in taken:
        number += 1
        name = f"{stem}_{number}"
    taken.add(name.casefold())
    return name
