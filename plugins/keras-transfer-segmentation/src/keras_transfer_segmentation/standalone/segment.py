#!/usr/bin/env python3
"""Write the mask of every image with the models beside this file, and tell areas. TensorFlow is not needed.

    python segment.py IMAGE... --output masks            NAME.png (class indices, a palette) and NAME_overlay.png
    python segment.py --model model_int8.tflite IMAGE...
    python segment.py --self-test                        replay the golden images; exit code 1 on any deviation

It needs: pip install ai-edge-litert numpy pillow   (tflite-runtime will do, too)

A mask has the size of its image: probabilities are interpolated (bilinear) between the model's pixels, and the most
probable class is written; pixels that a crop cut off get the ignore index. classify.py, which knows how an image
becomes pixels, must lie beside this file, and bundle.json and one .tflite.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.dont_write_bytecode = True  # the bundle stays as it was exported
from classify import Problem, argument_parser, preprocess, read_image, run


def restore_mask(
    chances: np.ndarray, contract: dict[str, Any], image_size: tuple[int, int], ignore_index: int
) -> np.ndarray:
    """Probabilities (H, W, C) to class indices, int32, at the size and place of the image."""
    (height, width), size = image_size, contract["size"]
    white = Image.new("RGB", (width, height), (255, 255, 255))
    inside = preprocess(white, {**contract, "interpolation": "nearest", "antialias": True})[..., 0] == 255
    tops, lefts = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    seen_height, seen_width = float(height), float(width)
    if contract["resize"] == "crop":
        seen_height = min(seen_height, width * size[0] / size[1])
        seen_width = min(seen_width, height * size[1] / size[0])
    known_rows, *rows = _between(height, seen_height, tops)
    known_columns, *columns = _between(width, seen_width, lefts)
    best = np.full(image_size, -np.inf, np.float32)
    mask = np.zeros(image_size, np.int32)
    for number in range(chances.shape[2]):
        chance = _mixed(_mixed(chances[..., number].astype(np.float32), *rows).T, *columns).T
        better = chance > best
        best[better], mask[better] = chance[better], number
    mask[~(known_rows[:, None] & known_columns[None, :])] = ignore_index
    return mask


def _between(side: int, seen: float, places: np.ndarray) -> tuple[np.ndarray, ...]:
    """Which pixels of a side were seen, the model's pixels before and after each, and the share of the one after."""
    centers = (np.arange(side) + 0.5 - (side - seen) / 2) / seen * len(places)
    known = (centers >= 0) & (centers < len(places))
    low = np.clip(centers - 0.5, 0, len(places) - 1)
    before = np.floor(low).astype(np.int64)
    after = np.minimum(before + 1, len(places) - 1)
    return known, places[0] + before, places[0] + after, (low - before).astype(np.float32)


def _mixed(plane: np.ndarray, before: np.ndarray, after: np.ndarray, share: np.ndarray) -> np.ndarray:
    return plane[before] * (1 - share)[:, None] + plane[after] * share[:, None]


def colors_of(classes: dict[str, Any]) -> np.ndarray:
    """uint8 (256, 3): those of the masks the model learned from, or PASCAL VOC's where those had none."""
    index = np.arange(256)[:, None]
    bits = np.arange(8)[None, :]
    colors = np.stack([(((index >> (3 * bits + c)) & 1) << (7 - bits)).sum(axis=1) for c in range(3)], axis=1)
    colors = colors.astype(np.uint8)
    if classes["colors"]:
        colors[: len(classes["colors"])] = classes["colors"]
    if classes["ignore_color"] and classes["ignore_index"] < 256:
        colors[classes["ignore_index"]] = classes["ignore_color"]
    return colors


def segment(
    bundle: dict[str, Any], options: argparse.Namespace, path: Path, pixels: np.ndarray, answer: np.ndarray
) -> list[str]:
    """Write the files of one image; a line for the area of each class, in percent of the pixels the model has seen."""
    if path.stem in options.written:
        raise Problem(f"{path}: another image is called {path.stem}, too; their masks would be one file.")
    options.written.add(path.stem)
    mask_file, overlay_file = (options.output / f"{path.stem}{end}.png" for end in ("", "_overlay"))
    for place in (mask_file, *([] if options.no_overlay else [overlay_file])):
        if place.exists() and any(place.samefile(image) for image in options.images if Path(image).exists()):
            raise Problem(
                f"{place} is an image that was given, and is never replaced. Choose another --output."
            )
        if place.exists() and not options.overwrite:
            raise Problem(f"{place} is there already. Choose another --output, or pass --overwrite.")
    classes = bundle["notes"]["classes"]
    ignored, count = classes["ignore_index"], len(bundle["labels"])
    picture = read_image(path)
    mask = restore_mask(answer, bundle["preprocessing"], picture.size[::-1], ignored)
    colors = colors_of(classes)
    small = max(ignored, count - 1) < 256
    file = Image.fromarray(mask.astype(np.uint8 if small else np.uint16))
    if small:
        file.putpalette(colors.tobytes())
    save(file, mask_file)
    if not options.no_overlay:
        whole = np.asarray(picture)
        mixed = np.rint(0.5 * whole + 0.5 * colors[mask % 256]).astype(np.uint8)
        plain = ((mask == 0) | (mask == ignored))[..., None]
        save(Image.fromarray(np.where(plain, whole, mixed)), overlay_file)
    areas = np.bincount(mask[mask != ignored], minlength=count)
    shares = 100 * areas / max(1, areas.sum())
    order = np.argsort(-shares, kind="stable")
    return [f"{bundle['labels'][place]} {shares[place]:.1f} %" for place in order if areas[place]]


def save(picture: Image.Image, path: Path) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(partial, "PNG")
        partial.replace(path)
    except OSError as error:
        raise Problem(f"{path} cannot be written: {error.strerror or error}") from None


def main() -> int:
    parser = argument_parser((__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--output", "-o", type=Path, default=Path("masks"), metavar="DIR", help="default: masks"
    )
    parser.add_argument("--no-overlay", action="store_true", help="write the masks alone")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there (no images)")
    parser.set_defaults(written=set())
    return run(parser, segment)


if __name__ == "__main__":
    sys.exit(main())
