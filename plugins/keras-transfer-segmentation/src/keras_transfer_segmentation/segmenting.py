"""Masks of image files, as files: at the image's own size, shrunk to the model's or tile by tile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer import progress
from keras_transfer.decoding import ImageError, decode, image_size, read_image_bytes
from keras_transfer.errors import UsageError
from keras_transfer.outputs import Outputs
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.workflow.loaded_model import LoadedModel, open_model
from keras_transfer.workflow.predict import find_images
from keras_transfer_segmentation.classes import IGNORE_INDEX, Classes
from keras_transfer_segmentation.masks import write_mask
from keras_transfer_segmentation.pictures import area_percent, overlay, save_picture
from keras_transfer_segmentation.resizing import restore_mask
from keras_transfer_segmentation.tiling import predict_tiled


def segment_files(
    model: Any,
    images: Sequence[str | Path],
    output: Path,
    *,
    tile: bool = False,
    overlap: float = 0.5,
    overlays: bool = False,
    probabilities: bool = False,
    overwrite: bool = False,
) -> Iterator[dict[str, Any]]:
    """Write ``NAME.png`` (a palette PNG of class indices) for every image; ``NAME_overlay.png``, ``NAME.npy`` as asked.

    Args:
        model: a run folder of the task segmentation, or a file of its bundle.
        images: files, or folders that are searched.
        output: the folder; made where it is missing.
        tile: images larger than the model's input are cut into overlapping tiles at their own scale.
        overlap: of the tiles, in [0, 0.9].
        overlays: the image with its mask laid over it.
        probabilities: float32 (h, w, C), at the image's size when tiled, else at the model's.
        overwrite: replace files that are there; never an image that is segmented.

    Yields:
        ``path``, ``mask`` (the file written) and ``areas`` (percent by class); or ``path`` and ``error``.

    Raises:
        UsageError: no such image, a model that segments nothing, two images that would have one mask, a file in the way
            of one.
    """
    paths = find_images(images)
    names = [path.stem for path in paths]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(
            f"Two images are called {twice}; their masks would be one file. Segment them separately."
        )
    endings = [".png", *(["_overlay.png"] if overlays else []), *([".npy"] if probabilities else [])]
    places = Outputs(paths, overwrite=overwrite)
    places.check(*(output / f"{name}{ending}" for name in names for ending in endings))
    loaded = open_model(model)
    classes = _classes(loaded)
    output.mkdir(parents=True, exist_ok=True)
    return _answers(loaded, classes, paths, output, places, tile, overlap, overlays, probabilities)


def _classes(loaded: LoadedModel) -> Classes:
    if loaded.task != "segmentation" or loaded.names is None:
        raise UsageError(f"{loaded.name} is a model of the task {loaded.task}; segmentation is expected.")
    if loaded.contract.notes.get("classes"):
        return Classes.from_dict(dict(loaded.contract.notes["classes"]))
    return Classes(loaded.names, ignore_index=IGNORE_INDEX)


def _answers(
    loaded: LoadedModel,
    classes: Classes,
    paths: list[Path],
    output: Path,
    places: Outputs,
    tile: bool,
    overlap: float,
    overlays: bool,
    probabilities: bool,
) -> Iterator[dict[str, Any]]:
    for path in progress.track(paths, "Segmenting", len(paths)):
        try:
            content = read_image_bytes(path)
            image = decode(content) if tile or overlays else None
            chances, mask = _segment(loaded, content, image if tile else None, classes, overlap)
        except ImageError as error:
            yield {"path": str(path), "error": str(error)}
            continue
        target = output / f"{path.stem}.png"
        with places.writing(target) as place:
            write_mask(place, mask, classes)
        if overlays and image is not None:
            with places.writing(output / f"{path.stem}_overlay.png") as place:
                save_picture(place, overlay(image, mask, classes))
        if probabilities:
            places.write(output / f"{path.stem}.npy", _npy(chances))
        yield {"path": str(path), "mask": str(target), "areas": area_percent(mask, classes)}


def _segment(
    loaded: LoadedModel, content: bytes, tiled: np.ndarray | None, classes: Classes, overlap: float
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and the mask at the image's size; ``tiled`` is the image where it is cut into tiles."""
    preprocessing: Preprocessing = loaded.preprocessing
    if tiled is not None:
        chances = predict_tiled(loaded.predict, tiled, preprocessing.size, overlap=overlap)
        return chances, chances.argmax(axis=-1).astype(classes.dtype)
    chances = loaded.predict(preprocessing.load(content)[np.newaxis])[0]
    mask = restore_mask(chances, preprocessing, image_size(content), classes.ignore_index)
    return chances, mask.astype(classes.dtype)


def _npy(values: np.ndarray) -> bytes:
    import io

    file = io.BytesIO()
    np.save(file, values.astype(np.float32))
    return file.getvalue()
