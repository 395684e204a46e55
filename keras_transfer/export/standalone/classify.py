#!/usr/bin/env python3
"""Classify images with the models beside this file. TensorFlow is not needed.

    python classify.py IMAGE...                      labels and probabilities
    python classify.py --model model_int8.tflite IMAGE...
    python classify.py --self-test                   replay the golden images; exit code 1 on any deviation

Where the bundle's task brought a script of its own, that one is run with the same arguments.

It needs: pip install ai-edge-litert numpy pillow   (tflite-runtime will do, too)

An image becomes pixels as bundle.json says under "preprocessing", exactly as when the model was trained; --self-test
shows it. The files may be copied one by one: what is needed are this file, bundle.json, one .tflite, and for
--self-test labels.txt and golden/.

A script that tells something else of the same images (bundle.json names it under "script") lies beside this file and
takes from it what it needs: read_image, read_pixels, preprocess, Model, argument_parser, run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import runpy
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

HERE = Path(__file__).resolve().parent
SCHEMA = 1
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
}
# EXIF tag 0x0112: how stored pixels must be turned to stand upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


Tell = Callable[[dict[str, Any], argparse.Namespace, Path, np.ndarray, np.ndarray], "list[str]"]


class Problem(Exception):
    """What the user is told; nothing else is printed."""


class Picture:
    """An upright RGB picture, of a JPEG perhaps at a part of its size.

    ``size`` is (width, height) in the file; ``scale`` pixels of it are one of ``image``; it begins at ``corner``.
    """

    def __init__(self, image: Image.Image, size: tuple, scale: int = 1, corner: tuple = (0.0, 0.0)) -> None:
        self.image, self.size, self.scale, self.corner = image, size, scale, corner


def read_image(path: Path) -> Image.Image:
    """The first frame, upright, RGB; what is transparent lies on white, 16-bit grey is divided by 257."""
    return _read(path, None).image


def read_pixels(path: Path, contract: dict[str, Any]) -> np.ndarray:
    """What the model sees of an image file: uint8 (height, width, 3) in [0, 255]."""
    return _pixels(_read(path, contract), contract)


def _read(path: Path, contract: dict[str, Any] | None) -> Picture:
    """In full; with a contract, as it says."""
    try:
        with Image.open(path, formats=_formats(path)) as picture:
            size, scale = picture.size, 1
            if contract is not None and isinstance(picture, JpegImageFile):
                scale = _scale_of(size[::-1] if _orientation(picture) >= 5 else size, contract)
                if scale > 1:
                    picture.draft(None, (size[0] // scale, size[1] // scale))
            picture.load()
            orientation = _orientation(picture)
            upright = _rgb(picture)
    except FileNotFoundError:
        raise Problem(f"{path}: no such file.") from None
    except ImportError:
        raise Problem(
            f"{path} cannot be read as an image: HEIC is read with pip install pillow-heif"
        ) from None
    except Exception as error:  # Pillow raises many types for a damaged file
        raise Problem(f"{path} cannot be read as an image: {error}") from None
    if orientation in TURNS:
        upright = upright.transpose(TURNS[orientation])
    size = size[::-1] if orientation >= 5 else size
    # A scaled picture's last column and row are filled up beyond the file's edge; turned, they may be the first ones.
    left = upright.width - size[0] / scale if orientation in (2, 3, 6, 7) else 0.0
    top = upright.height - size[1] / scale if orientation in (3, 4, 7, 8) else 0.0
    return Picture(upright, size, scale, (left, top))


def _formats(path: Path) -> tuple:
    """AVIF where Pillow reads it, HEIC with pillow-heif."""
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] != b"ftyp":
        return FORMATS
    if head[8:] in HEIC:
        import pillow_heif

        pillow_heif.register_heif_opener()
        return ("HEIF",)
    Image.init()
    return ("AVIF",) if "AVIF" in Image.OPEN else FORMATS


def _orientation(picture: Image.Image) -> int:
    try:
        value = picture.getexif().get(0x0112, 1)
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, struct.error):
        return 1  # a damaged EXIF block: as it is
    return value if isinstance(value, int) and value in TURNS else 1


def _scale_of(size: tuple, contract: dict[str, Any]) -> int:
    """The part of its size, 1/1 to 1/8, at which an upright JPEG of (width, height) is decoded."""
    weighs = contract["antialias"] and contract["interpolation"] in ("bilinear", "bicubic", "lanczos")
    if contract.get("decode", "full") == "full" or not weighs:
        return 1
    (height, width), (w, h) = contract["size"], size
    if contract["resize"] == "pad":
        width, height = _fit(size, contract)
    return next((s for s in (8, 4, 2) if h >= 2 * s * height and w >= 2 * s * width), 1)


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "F":
        raise ValueError("floating-point pixels have no fixed range")
    if picture.mode == "I" and picture.format == "TIFF":
        raise ValueError("pixels of 32 bits, or with a sign, have no fixed range")
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        values = np.asarray(picture).astype(np.int64).clip(0, 65535)
        grey = ((values + 128) // 257).astype(np.uint8)
        if isinstance(picture.info.get("transparency"), int):
            grey[values == picture.info["transparency"]] = 255
        return Image.fromarray(grey).convert("RGB")
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return picture.convert("RGB")


def preprocess(picture: Image.Image, contract: dict[str, Any]) -> np.ndarray:
    """Any RGB picture to uint8 pixels (height, width, 3) in [0, 255]. For a file, see ``read_pixels``."""
    return _pixels(Picture(picture, picture.size), contract)


def _pixels(picture: Picture, contract: dict[str, Any]) -> np.ndarray:
    (height, width), (w, h) = contract["size"], picture.size
    if (h, w) == (height, width):
        return np.array(picture.image)
    if contract["resize"] == "squash":
        return np.array(_scale(picture, (0.0, 0.0, w, h), (width, height), contract))
    if contract["resize"] == "crop":
        if height * w >= width * h:  # wider than the model's input
            inner = width * h / height
            left = (w - inner) / 2
            box = (left, 0.0, min(left + inner, float(w)), float(h))
        else:
            inner = height * w / width
            top = (h - inner) / 2
            box = (0.0, top, float(w), min(top + inner, float(h)))
        return np.array(_scale(picture, box, (width, height), contract))
    fit = _fit(picture.size, contract)
    padded = Image.new("RGB", (width, height))
    padded.paste(
        _scale(picture, (0.0, 0.0, w, h), fit, contract), ((width - fit[0]) // 2, (height - fit[1]) // 2)
    )
    return np.array(padded)


def _fit(size: tuple, contract: dict[str, Any]) -> tuple:
    """(width, height) of a picture that just fits into the model's input."""
    (height, width), (w, h) = contract["size"], size
    if height * w >= width * h:
        return width, max(1, (2 * h * width + w) // (2 * w))
    return max(1, (2 * w * height + h) // (2 * h)), height


def _scale(picture: Picture, region: tuple, size: tuple, contract: dict[str, Any]) -> Image.Image:
    """The region (left, top, right, bottom) of the file's pixels, at a size (width, height)."""
    kernel = FILTERS[contract["interpolation"]]
    left, top, right, bottom = box = tuple(
        begin + place / picture.scale for begin, place in zip(picture.corner * 2, region, strict=True)
    )
    if contract["antialias"]:
        return picture.image.resize(size, kernel, box=box)
    step_x, step_y = (right - left) / size[0], (bottom - top) / size[1]
    matrix = (step_x, 0, left, 0, step_y, top)
    return picture.image.transform(size, Image.Transform.AFFINE, matrix, kernel)


class Model:
    """A ``.tflite``: uint8 pixels (H, W, 3) to its output, float32; probabilities (C,) of a classifier.

    ``reach``: what black and white are in its input ("input_range" in bundle.json).
    """

    def __init__(self, path: Path, threads: int | None = None, reach: tuple = (0.0, 255.0)) -> None:
        interpreter = _interpreter()
        try:
            self._runtime = interpreter(model_path=str(path), num_threads=threads)
            self._runtime.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise Problem(f"{path.name} is damaged, or needs a newer runtime: {error}") from None
        self._input = self._runtime.get_input_details()[0]
        self._output = self._runtime.get_output_details()[0]
        self._step = np.float32(255 / (reach[1] - reach[0]))
        self._middle = np.float32(0.0 - reach[0]) * self._step

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        scale, zero = self._input["quantization"]
        kind = np.dtype(self._input["dtype"])
        values = pixels[np.newaxis]
        if self._step != 1:
            values = (values.astype(np.float32) - self._middle) / self._step
        if scale and kind != np.float32:
            limits = np.iinfo(kind)
            values = np.clip(
                np.rint(values.astype(np.float32) / np.float32(scale)) + zero, limits.min, limits.max
            )
        self._runtime.set_tensor(self._input["index"], values.astype(kind))
        self._runtime.invoke()
        answer = self._runtime.get_tensor(self._output["index"])[0].astype(np.float32)
        scale, zero = self._output["quantization"]
        return (answer - zero) * np.float32(scale) if scale else answer


def _interpreter() -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        try:
            from tflite_runtime.interpreter import Interpreter
        except ImportError:
            raise Problem("No runtime is installed: pip install ai-edge-litert") from None
    return Interpreter


def read_bundle() -> dict[str, Any]:
    try:
        bundle = json.loads((HERE / "bundle.json").read_text(encoding="utf-8"))
        if bundle["schema"] > SCHEMA:
            raise Problem(
                f"bundle.json has schema {bundle['schema']}; this classify.py knows {SCHEMA}. Use the one it came with."
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Problem(f"bundle.json cannot be read: {error}") from None
    return bundle


def model_files(bundle: dict[str, Any]) -> list[str]:
    """The ``.tflite`` files of the bundle that are here."""
    files = [row["file"] for row in bundle["artefacts"] if row["file"].endswith(".tflite")]
    return [name for name in files if (HERE / name).is_file()]


def open_model(bundle: dict[str, Any], name: str, threads: int | None) -> Model:
    """A ``.tflite`` of the bundle, fed as the bundle says."""
    row = next(row for row in bundle["artefacts"] if row["file"] == name)
    return Model(HERE / name, threads, tuple(row.get("input_range", (0.0, 255.0))))


def ask(bundle: dict[str, Any], options: argparse.Namespace, tell: Tell) -> int:
    """Print what ``tell`` makes of the answer to each image; exit code 1 when one cannot be read."""
    here = model_files(bundle)
    if options.model is None and not here:
        raise Problem("There is no .tflite beside this file.")
    if options.model is not None and options.model not in here:
        raise Problem(
            f"There is no {options.model} beside this file. There are: {', '.join(here) or 'none'}."
        )
    runtime, failed = open_model(bundle, options.model or here[0], options.threads), 0
    for name in options.images:
        try:
            pixels = read_pixels(Path(name), bundle["preprocessing"])
            lines = tell(bundle, options, Path(name), pixels, runtime.predict(pixels))
        except Problem as problem:
            print(problem, file=sys.stderr)
            failed = 1
            continue
        print(name, *(f"  {line}" for line in lines), sep="\n")
    return failed


def classify(
    bundle: dict[str, Any], options: argparse.Namespace, path: Path, pixels: np.ndarray, answer: np.ndarray
) -> list[str]:
    if answer.ndim != 1:
        raise Problem(
            f"The model gives {answer.shape} for an image, not one number per name. Use {bundle.get('script')}."
        )
    return told(bundle, answer, options.top)


def told(bundle: dict[str, Any], answer: np.ndarray, top: int) -> list[str]:
    """The ``top`` most probable classes; all numbers where they are not probabilities."""
    if bundle.get("output", {}).get("kind", "probabilities") != "probabilities":
        return [f"{name} {number:.4g}" for name, number in zip(bundle["labels"], answer, strict=True)]
    best = [int(place) for place in np.argsort(-answer, kind="stable")]
    thresholds = bundle.get("notes", {}).get("thresholds")
    if thresholds:  # labels that are independent of one another: all that reach theirs
        best = [place for place in best if answer[place] >= thresholds[bundle["labels"][place]]]
        return [f"{bundle['labels'][place]} {100 * answer[place]:.1f} %" for place in best] or ["no label"]
    best = best[:top]
    return [f"{bundle['labels'][place]} {100 * answer[place]:.1f} %" for place in best]


def self_test(bundle: dict[str, Any], threads: int) -> int:
    """Hashes, then golden images to pixels, then golden pixels to probabilities through every model here."""
    wrong: list[str] = []
    models = model_files(bundle)
    for name, recorded in bundle["files"].items():
        needed = name == "labels.txt" or name.startswith("golden/")
        if not (HERE / name).is_file():
            if needed:
                wrong.append(f"{name} is missing.")
        elif hashlib.sha256((HERE / name).read_bytes()).hexdigest() != recorded["sha256"]:
            wrong.append(f"{name} is not the file that was exported.")
    if not models:
        wrong.append("There is no .tflite to test.")
    if not wrong:
        golden = json.loads((HERE / "golden" / "golden.json").read_text(encoding="utf-8"))
        wrong = _replay(bundle, golden, models, threads)
    for line in wrong:
        print(line, file=sys.stderr)
    print("FAILED" if wrong else "passed")
    return 1 if wrong else 0


def _replay(bundle: dict[str, Any], golden: dict[str, Any], models: list[str], threads: int) -> list[str]:
    wrong, pixels = [], []
    furthest = 0
    for row in golden["images"]:
        expected = np.array(Image.open(HERE / row["input"]))
        given = read_pixels(HERE / row["image"], bundle["preprocessing"])
        if given.shape != expected.shape:
            wrong.append(f"{row['image']} becomes {given.shape}; {expected.shape} is expected.")
            continue
        furthest = max(furthest, int(np.abs(given.astype(int) - expected).max()))
        pixels.append(expected)
    if furthest > golden["pixel_tolerance"]:
        wrong.append(f"Pixels differ by up to {furthest}; at most {golden['pixel_tolerance']} is allowed.")
    if wrong:
        return wrong
    print(f"{len(pixels)} images, pixels {f'differ by up to {furthest}' if furthest else 'identical'}")
    for name in models:
        runtime, tolerance = open_model(bundle, name, threads), golden["tolerances"][name]
        answers = np.array([runtime.predict(image).ravel()[:: golden["step"]] for image in pixels])
        difference = float(np.abs(answers - np.array(golden["expected"][name], np.float32)).max())
        if not difference <= tolerance:  # NaN, too
            wrong.append(
                f"{name}: a probability differs by {difference:.2g}; at most {tolerance:g} is allowed."
            )
        print(f"{name}: largest difference {difference:.1e} (allowed {tolerance:g})")
    return wrong


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} was given, at least 1 is expected")
    return number


def argument_parser(description: str) -> argparse.ArgumentParser:
    """What every script takes; a script adds what it needs besides."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("images", nargs="*", metavar="IMAGE")
    parser.add_argument("--self-test", action="store_true", help="replay the golden images")
    parser.add_argument("--model", metavar="FILE", help="which .tflite (default: the bundle's first)")
    parser.add_argument("--threads", type=positive, default=1, help="default: 1")
    return parser


def run(parser: argparse.ArgumentParser, tell: Tell) -> int:
    """The self-test, or what ``tell(bundle, options, path, pixels, answer)`` says of every image, a line each.

    ``pixels`` are what the model saw, uint8 (H, W, 3); ``answer`` is what it gave. ``read_image(path)`` is the image
    at its own size. ``tell`` may raise ``Problem``.
    """
    options = parser.parse_args()
    if options.self_test == bool(options.images):
        parser.error("give images, or --self-test")
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a label the terminal cannot show stops nothing
    try:
        bundle = read_bundle()
        return self_test(bundle, options.threads) if options.self_test else ask(bundle, options, tell)
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 1


def own_script() -> Path | None:
    """The script that the bundle's task brought: it knows what the outputs mean."""
    try:
        name = read_bundle().get("script")
    except Problem:
        return None  # whoever reads the bundle next tells why
    path = HERE / name if isinstance(name, str) and name != Path(__file__).name else None
    return path if path is not None and path.is_file() else None


def main() -> int:
    own = own_script()
    if own is not None:
        runpy.run_path(str(own), run_name="__main__")  # it exits
    parser = argument_parser((__doc__ or "").splitlines()[0])
    parser.add_argument("--top", type=positive, default=3, help="how many classes to print (default: 3)")
    return run(parser, classify)


if __name__ == "__main__":
    sys.exit(main())
