"""Cases for the clients of other languages: one binary file for one process each, and what Pillow says of them.

A case is 14 numbers (int32, little-endian) and the picture's bytes. The numbers: height and width of the model's input,
rule, filter, antialias, decode, the major version of Pillow; width, height and format of the picture as stored,
orientation, scale, width and height of the file. The answer is the scale a JPEG of that size is decoded at (int32), and
the pixels.
"""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

import keras_transfer
from keras_transfer.preprocessing import _FILTERS, Preprocessing, _crop_box, _fit

SOURCES = Path(keras_transfer.__file__).parent / "export" / "clients"
DRIVERS = Path(__file__).with_name("clients")
RULES = ("squash", "crop", "pad")
FILTERS = ("nearest", "bilinear", "bicubic", "area", "lanczos")
FORMATS = ("grey", "rgb", "rgba", "grey16")
TOOLS = {"javascript": ("node",), "java": ("javac", "java"), "cpp": ("g++",)}
GXX = ("g++", "-std=c++17", "-Wall", "-Wextra", "-Werror")
TURNS = dict(
    zip(
        range(2, 9),
        (
            Image.Transpose.FLIP_LEFT_RIGHT,
            Image.Transpose.ROTATE_180,
            Image.Transpose.FLIP_TOP_BOTTOM,
            Image.Transpose.TRANSPOSE,
            Image.Transpose.ROTATE_270,
            Image.Transpose.TRANSVERSE,
            Image.Transpose.ROTATE_90,
        ),
        strict=True,
    )
)


@dataclass(frozen=True)
class Case:
    """A contract and a picture: uint8 ``(h, w)``, ``(h, w, 3 or 4)`` or uint16 ``(h, w)``, ``1 / scale`` of a file."""

    contract: Preprocessing
    data: np.ndarray
    orientation: int = 1
    scale: int = 1
    file: tuple[int, int] = (0, 0)
    """Width and height of the file's pixels; of a picture at scale 1 its own."""
    scaled: bool = False
    pillow: int = 13

    @property
    def stored(self) -> tuple[int, int]:
        """Width and height of the file, as stored."""
        return (self.data.shape[1], self.data.shape[0]) if self.scale == 1 else self.file

    def encoded(self) -> bytes:
        contract = self.contract
        head = (
            *contract.size,
            RULES.index(contract.resize),
            FILTERS.index(contract.interpolation),
            contract.antialias,
            self.scaled,
            self.pillow,
            self.data.shape[1],
            self.data.shape[0],
            FORMATS.index(self._format()),
            self.orientation,
            self.scale,
            *self.stored,
        )
        return np.array(head, "<i4").tobytes() + self.data.tobytes()

    def _format(self) -> str:
        if self.data.ndim == 2:
            return "grey16" if self.data.dtype == np.uint16 else "grey"
        return "rgb" if self.data.shape[2] == 3 else "rgba"

    def expected(self) -> tuple[int, np.ndarray]:
        """The scale, and uint8 ``(height, width, 3)``."""
        w, h = self.stored if self.orientation not in range(5, 9) else self.stored[::-1]
        pixels = self._upright()
        if self.scale == 1:
            return self._jpeg_scale(h, w), self.contract.apply(np.array(pixels))
        return self._jpeg_scale(h, w), self._of_scaled(pixels, h, w)

    def _upright(self) -> Image.Image:
        if self.data.dtype == np.uint16:
            picture = Image.fromarray(((self.data.astype(np.int64) + 128) // 257).astype(np.uint8))
        else:
            picture = Image.fromarray(self.data)
        if picture.mode == "RGBA":
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, (255, 255, 255, 255)), picture)
        picture = picture.convert("RGB")
        turn = TURNS.get(self.orientation)
        return picture if turn is None else picture.transpose(turn)

    def _jpeg_scale(self, h: int, w: int) -> int:
        contract = self.contract
        weighs = contract.interpolation in ("bilinear", "bicubic", "lanczos") and contract.antialias
        if not self.scaled or not weighs:
            return 1
        rows, columns = _fit(h, w, *contract.size) if contract.resize == "pad" else contract.size
        return next((s for s in (8, 4, 2) if h >= 2 * s * rows and w >= 2 * s * columns), 1)

    def _of_scaled(self, picture: Image.Image, h: int, w: int) -> np.ndarray:
        """The region in the picture's own coordinates, with fractions."""
        contract, scale = self.contract, self.scale
        height, width = contract.size
        box = _crop_box(h, w, height, width) if contract.resize == "crop" else (0.0, 0.0, w, h)
        across = picture.width - w / scale if self.orientation in (2, 3, 6, 7) else 0.0
        down = picture.height - h / scale if self.orientation in (3, 4, 7, 8) else 0.0
        left, top, right, bottom = (
            start + side / scale for start, side in zip((across, down, across, down), box, strict=True)
        )
        rows, columns = _fit(h, w, height, width) if contract.resize == "pad" else (height, width)
        resample = _FILTERS[contract.interpolation]
        if contract.antialias:
            inner = picture.resize((columns, rows), resample, box=(left, top, right, bottom))
        else:
            steps = ((right - left) / columns, 0, left, 0, (bottom - top) / rows, top)
            inner = picture.transform((columns, rows), Image.Transform.AFFINE, steps, resample)
        result = Image.new("RGB", (width, height))
        result.paste(inner, ((width - columns) // 2, (height - rows) // 2))
        return np.array(result)


def random_case(rng: np.random.Generator, scaled: bool) -> Case:
    """Any contract and any picture, often a thin or a tiny one; half of them of two levels, where filters overshoot."""
    interpolation = str(rng.choice(FILTERS))
    contract = Preprocessing(
        (int(rng.integers(1, 65)), int(rng.integers(1, 65))),
        str(rng.choice(RULES)),
        interpolation,
        interpolation in ("area", "lanczos") or bool(rng.integers(2)),
    )
    sides = [int(rng.integers(1, most)) for most in rng.choice([4, 40, 400], 2)]
    kind = str(rng.choice(FORMATS))
    shape = (*sides, {"rgb": 3, "rgba": 4}[kind]) if kind.startswith("rgb") else tuple(sides)
    most, dtype = (65_536, np.uint16) if kind == "grey16" else (256, np.uint8)
    data = rng.integers(0, most, shape).astype(dtype)
    if rng.integers(2):
        data = np.where(data < most // 2, 0, most - 1).astype(dtype)
    case = Case(contract, data, int(rng.integers(0, 10)), scaled=bool(rng.integers(2)))
    if not scaled:
        return case
    scale = int(rng.choice([2, 4, 8]))
    file = tuple(int(side * scale - rng.integers(0, scale)) for side in sides[::-1])
    return replace(case, scale=scale, file=file)


def missing(language: str) -> str:
    """Why a client cannot be run here; empty where it can."""
    absent = [tool for tool in TOOLS[language] if shutil.which(tool) is None]
    return f"{' and '.join(absent)} is not installed" if absent else ""


def build(language: str, folder: Path, source: Path | None = None, flags: Sequence[str] = ()) -> list[str]:
    """Compile a driver; the command that runs it. ``source``: of the client, if not the package's own.

    Of Java all is compiled at once, ``Decide`` and ``SelfTest``, too: it is the start of the compiler that takes time.
    """
    source = source or SOURCES / language
    if language == "javascript":
        return ["node", str(DRIVERS / "driver.mjs"), str(source / "preprocess.mjs")]
    if language == "java":
        files = [str(path) for place in (DRIVERS, source) for path in sorted(place.glob("*.java"))]
        run(["javac", "--release", "8", "-Xlint:all,-options", "-Werror", "-d", str(folder), *files])
        return [*java(folder), "Driver"]
    run([*GXX, "-O2", *flags, "-I", str(source), str(DRIVERS / "driver.cc"), "-o", str(folder / "driver")])
    return [str(folder / "driver")]


def java(folder: Path) -> list[str]:
    """The command for classes in a folder, for a program that ends soon."""
    return ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", str(folder)]


def answers(command: Sequence[str], cases: Sequence[Case], folder: Path) -> list[tuple[int, np.ndarray]]:
    """Each case's scale and pixels, as a client gives them."""
    given, made = folder / "cases.bin", folder / "results.bin"
    given.write_bytes(b"".join(case.encoded() for case in cases))
    run([*command, str(given), str(made)])
    content, place, found = made.read_bytes(), 0, []
    for case in cases:
        shape = (*case.contract.size, 3)
        scale = int(np.frombuffer(content, "<i4", 1, place)[0])
        found.append((scale, np.frombuffer(content, np.uint8, math.prod(shape), place + 4).reshape(shape)))
        place += 4 + math.prod(shape)
    assert place == len(content)
    return found


def deviations(command: Sequence[str], cases: Sequence[Case], folder: Path) -> list[str]:
    """What a client does otherwise than the reference, a line each."""
    lines = []
    for case, (scale, pixels) in zip(cases, answers(command, cases, folder), strict=True):
        told, wanted = case.expected()
        wrong = int((pixels != wanted).sum())
        if wrong or scale != told:
            what = f"{case.contract}, {case.data.shape} {case.data.dtype}, orientation {case.orientation}"
            lines.append(
                f"{what}, 1/{case.scale} of {case.file}: {wrong} bytes differ; scale {scale}, not {told}"
            )
    return lines


def run(command: Sequence[str]) -> None:
    """Run a tool or a client; what it said is the test's message where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
