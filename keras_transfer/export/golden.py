"""Golden vectors: real images, the pixels they become, and what every artefact answered to them.

They are the part of a bundle that can be checked on the board: ``golden/golden.json`` names the files and holds the
expected probabilities, ``golden/*.png`` are the images (as decoded, upright, at most 640 pixels per side) and the
model's input pixels. PNG loses nothing and can carry no code. Where the run's images are JPEGs so large that they are
decoded at a part of their size, one of them stays a JPEG and as large as that takes: it proves that rule. Its decoded
pixels are there, too, for whoever has no decoder that scales.
"""

from __future__ import annotations

import io
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_transfer.data.table import SPLITS, ImageTable, PathImages
from keras_transfer.decoding import is_jpeg, read_picture
from keras_transfer.export.calibration import stratified
from keras_transfer.export.report import ArtefactReport
from keras_transfer.inference import Runner, SavedModelRunner
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.records.layout import ALL_INTEGER, EXPECTED, GOLDEN

log = logging.getLogger("keras_transfer")

LEAST, MOST = 8, 24
LONGEST_SIDE = 640
"""Larger images are shrunk first: the resize to the model's input is still there to be checked."""
MOST_NUMBERS = 20_000
"""Of an image's output are recorded; of a larger one, every so-manyth."""
PIXEL_TOLERANCE = 1
"""Of 255. The pixels were identical wherever this was tried; another Pillow may round another way."""
FAR = 0.05
"""Of the outputs' scale. A SavedModel whose answers to files are further from those to pixels is warned about."""
TOLERANCES: Mapping[str, float] = {
    "float32": 1e-4,
    "float16": 1e-3,
    "int16x8": 0.02,
    "dynamic": 0.1,
    "int8": 0.1,
    ALL_INTEGER: 0.1,
}
"""How far a probability may be from the recorded one, by precision. On the same machine it is the same number; another
processor runs other kernels, which add and round in another way."""


@dataclass(frozen=True)
class GoldenImages:
    """Images of a bundle.

    Attributes:
        rows: one each: ``image`` and ``input`` (files in the bundle) and ``label`` (the true class, or labels); of a
            JPEG also ``decoded`` (a PNG), at 1 / ``scale`` of its ``size`` (height, width).
        pixels: uint8 ``(N, H, W, 3)``, the model's input; of a model that generates, float32 ``(N, ...)``.
        encoded: each image's PNG file; none for a model that generates.
    """

    rows: tuple[dict[str, Any], ...]
    pixels: np.ndarray
    encoded: tuple[bytes, ...] = ()


def choose_rows(table: ImageTable, split: str, seed: int) -> np.ndarray:
    """Rows of ``table``: stratified over ``split``, one per class but at least 8 and at most 24; sorted.

    Other splits fill up what a small split lacks; with a warning, fewer than 8 when the data have no more.
    """
    size = min(max(LEAST, len(table.classes)), MOST)
    chosen = np.zeros(0, np.int64)
    for name in (split, *(other for other in SPLITS if other != split)):
        rows = table.indices(name)
        if len(rows) and len(chosen) < size:
            chosen = np.concatenate([chosen, stratified(table, rows, size - len(chosen), seed)])
    if len(chosen) < LEAST:
        log.warning("The bundle has %d golden images; the data hold no more. 8 are usual.", len(chosen))
    return np.sort(chosen)


def write_inputs(
    folder: Path,
    table: ImageTable,
    rows: np.ndarray,
    preprocessing: Preprocessing,
    draw: Callable[[ImageTable], np.ndarray] | None,
) -> GoldenImages:
    """What artefacts are asked: images, see :func:`write_images`, or the numbers ``draw`` gives for these rows."""
    if draw is None:
        return write_images(folder, table, rows, preprocessing)
    (folder / GOLDEN).mkdir()
    labels = tuple({"label": table.label_text(int(row))} for row in rows)
    return GoldenImages(labels, draw(table.take(rows)).astype(np.float32))


def write_images(
    folder: Path, table: ImageTable, rows: np.ndarray, preprocessing: Preprocessing
) -> GoldenImages:
    """Write the images and their pixels into ``folder/golden``."""
    (folder / GOLDEN).mkdir()
    entries, pixels, encoded, proven = [], [], [], False
    for place, row in enumerate(rows):
        picture = Image.fromarray(table.images.load(int(row)))
        large = None if proven else _large_jpeg(table, int(row), picture, preprocessing)
        proven = proven or large is not None
        kind = "png" if large is None else "jpg"
        names = {"image": f"{GOLDEN}/{place:02d}_image.{kind}", "input": f"{GOLDEN}/{place:02d}_input.png"}
        encoded.append(_small_png(picture) if large is None else large)
        prepared = preprocessing.load(encoded[-1])
        (folder / names["image"]).write_bytes(encoded[-1])
        (folder / names["input"]).write_bytes(_png(Image.fromarray(prepared)))
        decoded = {} if large is None else _write_decoded(folder, place, large, preprocessing)
        entries.append({**names, **decoded, "label": table.label_text(int(row))})
        pixels.append(prepared)
    return GoldenImages(tuple(entries), np.stack(pixels), tuple(encoded))


def _write_decoded(folder: Path, place: int, content: bytes, preprocessing: Preprocessing) -> dict[str, Any]:
    """Write a JPEG as it is decoded, and say so."""
    found = read_picture(content, preprocessing.jpeg_scale)
    name = f"{GOLDEN}/{place:02d}_decoded.png"
    (folder / name).write_bytes(_png(found.picture))
    return {"decoded": name, "scale": found.scale, "size": [found.height, found.width]}


def write_expectations(
    folder: Path,
    images: GoldenImages,
    artefacts: Sequence[ArtefactReport],
    runtimes: Sequence[Runner],
    scale: float = 1.0,
    tolerance: float = 0.0,
) -> None:
    """Write ``golden/golden.json``: by artefact the outputs ``(N, C)`` and how far another machine's may be.

    Larger outputs are recorded flat and in part (:func:`sampled`). ``scale`` is that of the numbers, 1 for
    probabilities; ``tolerance`` is what is allowed in any precision, as a share of it.

    An artefact whose numbers are not finite (``allow_parity_failure``) gets zeros, and never passes a verification.

    A SavedModel's answers to the images' files are under ``encoded``, None when it takes none.
    """
    answers = [runtime.predict(images.pixels) for runtime in runtimes]
    step = step_for(answers[0].shape[1:])
    encoded = {
        one.file: runtime.predict_encoded(images.encoded)
        for one, runtime in zip(artefacts, runtimes, strict=True)
        if images.encoded and isinstance(runtime, SavedModelRunner)
    }
    for one, answer in zip(artefacts, answers, strict=True):
        if encoded.get(one.file) is not None:
            _warn_if_far(one.file, np.asarray(encoded[one.file]), answer, scale)
    content = {
        "images": list(images.rows),
        **({} if images.encoded else {"inputs": images.pixels.astype(np.float64).tolist()}),
        "pixel_tolerance": PIXEL_TOLERANCE,
        "tolerances": {one.file: scale * max(TOLERANCES[one.precision], tolerance) for one in artefacts},
        "step": step,
        "expected": {
            one.file: _finite(sampled(answer, step)) for one, answer in zip(artefacts, answers, strict=True)
        },
        "encoded": {
            file: None if rows is None else _finite(sampled(np.asarray(rows), step))
            for file, rows in encoded.items()
        },
    }
    (folder / EXPECTED).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def step_for(shape: tuple[int, ...]) -> int:
    """Of an output of this shape, every so-manyth number is recorded."""
    return max(1, -(-math.prod(shape) // MOST_NUMBERS))


def sampled(answers: np.ndarray, step: int) -> np.ndarray:
    """``(N, ...)`` to ``(N, K)``: flat, every ``step``-th number."""
    return answers.reshape(len(answers), -1)[:, ::step]


def _finite(answers: np.ndarray) -> list[list[float]]:
    """JSON-able: 0 where a number is not finite."""
    return np.where(np.isfinite(answers), answers, 0.0).astype(np.float64).tolist()


def _warn_if_far(file: str, encoded: np.ndarray, answers: np.ndarray, scale: float) -> None:
    """The graph's own resize rounds in another way; a network may hear that."""
    difference = float(np.abs(encoded - answers).max())
    if not difference <= FAR * scale:
        log.warning(
            "%s: classify_bytes, which decodes and resizes inside the graph, differs by up to %.2g from the "
            "outputs for the contract's pixels.",
            file,
            difference,
        )


def _small_png(picture: Image.Image) -> bytes:
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    return _png(picture)


def _large_jpeg(
    table: ImageTable, row: int, picture: Image.Image, preprocessing: Preprocessing
) -> bytes | None:
    """The picture as a new JPEG, no larger than its decoding at a part of its size takes; None where it is not so."""
    scale = preprocessing.jpeg_scale(picture.height, picture.width)
    if scale == 1 or not isinstance(table.images, PathImages) or not is_jpeg(table.images.path(row)):
        return None
    height, width = preprocessing.size
    share = 2 * scale * max(height / picture.height, width / picture.width)
    # A few pixels more, so that the scaled sides have fractions.
    smaller = math.ceil(share * picture.width) + 3, math.ceil(share * picture.height) + 3
    if smaller < picture.size and preprocessing.jpeg_scale(smaller[1], smaller[0]) == scale:
        picture = picture.resize(smaller, Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=75)
    return file.getvalue()


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
