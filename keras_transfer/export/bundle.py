"""A bundle folder, opened: what it promises is checked before anything in it is used.

Its list is read with a limit on its size; names that lead outside the folder, links, and files that are not the
recorded ones are refused; ``.keras`` files load without running the code in them (Keras's safe mode). That finds damage
and clumsy hands. Who can rewrite the list can rewrite the hashes: a SavedModel is a program and its script is one,
so a bundle of someone you do not trust is not made safe by this.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from keras_transfer.errors import BundleError, DataError, UsageError, unknown_name
from keras_transfer.export import manifest
from keras_transfer.export.folder import BUNDLE, EXPECTED, KERAS, LABELS, PARITY, SAVED_MODEL, SCRIPT, TFLITE
from keras_transfer.export.golden import step_for
from keras_transfer.export.parity import PRECISIONS, Tolerance
from keras_transfer.export.report import digest
from keras_transfer.preprocessing import ImageError, Preprocessing

MOST_BYTES = 256_000_000
"""``bundle.json`` and ``golden.json`` may be so large: enough for 10,000 classes in every precision."""
ARTEFACTS = frozenset({KERAS, f"{SAVED_MODEL}/", *TFLITE.values()})
"""What an export makes. Nothing else in a bundle is opened as a model."""
BATCH = 32


@dataclass(frozen=True)
class Artefact:
    """A model in a bundle: ``file`` (a SavedModel's ends in ``/``), ``precision``, and what ``bundle.json`` says."""

    file: str
    precision: str
    info: Mapping[str, Any]


class Bundle:
    """A checked bundle.

    Attributes:
        path: the folder.
        info: the content of ``bundle.json``.
        labels: the names of the outputs, in order.
        shape: of one image's output.
        preprocessing: how an image becomes pixels.
        generates: its models take numbers and make images; ``golden/golden.json`` has some such ``inputs``.
        artefacts: the models, in the order of the export.
    """

    def __init__(self, path: Path, info: Mapping[str, Any]) -> None:
        self.path, self.info = path, info
        self.labels: tuple[str, ...] = tuple(info["labels"])
        self.shape: tuple[int, ...] = tuple(info["output"]["shape"])
        self.preprocessing = Preprocessing.from_dict(info["preprocessing"])
        self.generates = info.get("input") == "numbers"
        self.artefacts = tuple(Artefact(row["file"], row["precision"], row) for row in info["artefacts"])

    def tolerance(self, file: str) -> Tolerance:
        """What the export allowed an artefact to lose."""
        return Tolerance(**self.artefact(file).info["tolerance"])

    def artefact(self, file: str | None = None) -> Artefact:
        """The artefact of that name; by default the first ``.tflite``, or the first of all.

        Raises ``UsageError`` for an unknown name.
        """
        if file is None:
            return next((one for one in self.artefacts if one.file.endswith(".tflite")), self.artefacts[0])
        for one in self.artefacts:
            if file in (one.file, one.file.rstrip("/")):
                return one
        raise unknown_name("artefact", file, [one.file for one in self.artefacts])

    def runtime(self, file: str | None = None) -> Any:
        """An artefact in the runtime it is made for: ``predict(pixels)``. See :func:`load_runtime`."""
        from keras_transfer.export.runtimes import load_runtime

        return load_runtime(self.path / self.artefact(file).file)

    def predict(self, images: Iterable[Any], file: str | None = None) -> np.ndarray:
        """Ask an artefact about images of any size.

        Args:
            images: paths, encoded images (bytes), or arrays uint8 ``(h, w, 3)``, RGB in [0, 255]; an array
                ``(N, h, w, 3)`` will do.
            file: which artefact; see :meth:`artefact`.

        Returns:
            float32 ``(N, C)``: probabilities in the order of :attr:`labels`; ``(N, *shape)`` where it is no classifier.

        Raises:
            UsageError: something that is no image.
            DataError: an image that cannot be read.
        """
        if self.generates:
            raise UsageError(
                f"{self.path} makes images from numbers and looks at none: ask its runtime, "
                "bundle.runtime().predict(inputs)."
            )
        runtime = self.runtime(file)
        parts, batch = [np.zeros((0, *self.shape), np.float32)], []
        for image in images:
            batch.append(self._pixels(image))
            if len(batch) == BATCH:
                parts.append(self._answers(runtime, batch))
                batch = []
        if batch:
            parts.append(self._answers(runtime, batch))
        return np.concatenate(parts)

    def _answers(self, runtime: Any, batch: list[np.ndarray]) -> np.ndarray:
        answers = runtime.predict(np.stack(batch))
        if answers.shape[1:] != self.shape:
            raise BundleError(
                f"{self.path / BUNDLE} says that an output has shape {self.shape}; the model gives "
                f"{answers.shape[1:]}. Export again."
            )
        return answers

    def golden(self) -> dict[str, Any]:
        """``golden/golden.json``, checked against the list of files.

        Raises ``BundleError`` when it is not what an export writes.
        """
        golden = _read_json(self.path / EXPECTED)
        names = [one.file for one in self.artefacts]
        try:
            files = [
                row[name] for row in golden["images"] for name in ("image", "input") if not self.generates
            ]
            encoded = [rows for rows in golden["encoded"].values() if rows is not None]
            answers = [*(golden["expected"][name] for name in names), *encoded]
            shapes = {np.asarray(rows, np.float64).shape for rows in answers}
            numbers = [golden["pixel_tolerance"], *(golden["tolerances"][name] for name in names)]
            step = step_for(self.shape)
            kept = -(-math.prod(self.shape) // step)
            wanted = {(len(golden["images"]), kept)}
            inputs = np.asarray(golden["inputs"] if self.generates else (), np.float64)
            given = bool(np.isfinite(inputs).all()) and len(inputs) == len(golden["images"])
            sound = (
                (given and len(inputs) if self.generates else files)
                and shapes == wanted
                and golden["step"] == step
            )
            sound = sound and all(isinstance(number, (int, float)) for number in numbers)
            strangers = [name for name in files if name not in self.info["files"]]
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise BundleError(f"{self.path / EXPECTED} is damaged ({error!r}). Export again.") from None
        if not sound or strangers:
            raise BundleError(f"{self.path / EXPECTED} does not fit {BUNDLE}. Export again.")
        return golden

    def _pixels(self, image: Any) -> np.ndarray:
        try:
            if isinstance(image, np.ndarray):
                return self.preprocessing.apply(image)
            return self.preprocessing.load(image if isinstance(image, bytes) else Path(image))
        except ImageError as error:
            raise DataError(f"{image if not isinstance(image, bytes) else 'An image'}: {error}.") from error
        except TypeError:
            raise UsageError(
                f"A {type(image).__name__} was given; paths, bytes or uint8 arrays (h, w, 3) are expected."
            ) from None


def is_bundle(path: Path) -> bool:
    """Whether there is a ``bundle.json`` in the folder."""
    return (path / BUNDLE).is_file()


def load_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Open a bundle and check every file against its recorded hash.

    Args:
        path: the folder that ``export`` made, or a copy of it.

    Raises:
        UsageError: there is no bundle at that path.
        BundleError: the bundle is of a newer version, incomplete, or not what was exported; the message names the
            file.
    """
    folder = Path(path)
    info = read_manifest(folder)
    check_files(folder, info["files"])
    labels = (folder / LABELS).read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    if labels != list(info["labels"]):
        raise BundleError(f"{folder / LABELS} has other labels than {BUNDLE}. Export again.")
    return Bundle(folder, info)


def read_manifest(folder: Path) -> dict[str, Any]:
    """``bundle.json``, checked for its form; the files it names are not looked at. Errors: see :func:`load_bundle`."""
    if not is_bundle(folder):
        failed = " It holds the evidence of an export that failed." if (folder / PARITY).is_file() else ""
        raise UsageError(
            f"{folder} is not a bundle: it holds no {BUNDLE}.{failed} `keras-transfer export RUN --to DIR` makes "
            "one."
        )
    info = _read_json(folder / BUNDLE)
    schema = info.get("schema")
    if info.get("kind") != manifest.KIND or not isinstance(schema, int) or schema < 1:
        raise BundleError(f"{folder / BUNDLE} was not written by an export of keras_transfer.")
    if schema > manifest.SCHEMA:
        raise BundleError(
            f"{folder} has schema {schema}; this keras_transfer knows up to {manifest.SCHEMA}. Update keras_transfer."
        )
    wrong = _wrong_form(info)
    if wrong:
        raise BundleError(f"{folder / BUNDLE} is damaged: {wrong}. Export again.")
    try:
        Preprocessing.from_dict(info["preprocessing"])
    except DataError as error:
        raise BundleError(f"{folder / BUNDLE}: {error}") from None
    return info


def check_model_file(path: Path) -> None:
    """A model file or SavedModel folder of a bundle, checked against its recorded hashes; others are let pass.

    Raises ``BundleError`` when it is not what was exported.
    """
    files = read_manifest(path.parent)["files"]
    check_files(
        path.parent,
        {name: row for name, row in files.items() if name == path.name or name.startswith(f"{path.name}/")},
    )


def check_files(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Every listed file is there, inside the folder, no link, and has its recorded size and hash.

    Raises ``BundleError`` that names the first that is not.
    """
    for name, recorded in files.items():
        reason = _difference(folder, name, recorded)
        if reason:
            raise BundleError(f"{folder / name} {reason}. Copy the bundle again, or export again.")


def _difference(folder: Path, name: str, recorded: Mapping[str, Any]) -> str | None:
    path = folder
    try:
        for part in PurePosixPath(name).parts:
            path = path / part
            if path.is_symlink():
                return "is a link, and a bundle holds none"
        if not path.is_file():
            return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if path.stat().st_size != recorded["bytes"] or digest(path)[1] != recorded["sha256"]:
        return "is not the file that was exported"
    return None


def unlisted(folder: Path, files: Mapping[str, Any]) -> list[str]:
    """Files in the folder that ``bundle.json`` does not list, but for the card; sorted."""
    paths = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    found = (path.relative_to(folder).as_posix() for path in paths)
    return sorted(name for name in found if name not in files and name not in manifest.UNLISTED)


def _read_json(path: Path) -> dict[str, Any]:
    if path.is_symlink():
        raise BundleError(f"{path} is a link, and a bundle holds none.")
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise BundleError(f"{path} has {size} bytes; at most {MOST_BYTES} are read.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is damaged: {error}.") from None
    if not isinstance(content, dict):
        raise BundleError(f"{path} is damaged: an object is expected, not {type(content).__name__}.")
    return content


def _wrong_form(info: Mapping[str, Any]) -> str | None:
    """What is wrong with the fields that are relied on, or None."""
    labels, artefacts, files = info.get("labels"), info.get("artefacts"), info.get("files")
    if not _texts(labels):
        return "'labels' is not a list of names"
    wrong = _wrong_output(info)
    if wrong:
        return wrong
    if not isinstance(files, dict) or LABELS not in files or EXPECTED not in files:
        return f"'files' does not list {LABELS} and {EXPECTED}"
    for name, row in files.items():
        if not _inside(name):
            return f"the name {name!r} leads outside the bundle"
        if (
            not isinstance(row, dict)
            or not isinstance(row.get("bytes"), int)
            or not isinstance(row.get("sha256"), str)
        ):
            return f"{name!r} has no size and hash"
    if "script" in info and not _right_script(info["script"], files):
        return "'files' does not list the script"
    if not isinstance(artefacts, list) or not artefacts:
        return "'artefacts' is not a list of models"
    for row in artefacts:
        if not isinstance(row, dict) or not _texts([row.get("file"), row.get("precision")]):
            return "an artefact has no file and precision"
        wrong = _wrong_artefact(row, files)
        if wrong:
            return wrong
    return None


def _right_script(script: Any, files: Mapping[str, Any]) -> bool:
    """A file of the bundle; None where there is none to run."""
    return SCRIPT not in files if script is None else isinstance(script, str) and script in files


def _wrong_output(info: Mapping[str, Any]) -> str | None:
    output = info.get("output")
    if not isinstance(output, dict) or not _texts(
        [info.get("task"), output.get("kind"), output.get("metric")]
    ):
        return "'task' and 'output' do not say what the models give"
    shape = output.get("shape")
    if (
        not isinstance(shape, list)
        or not 0 < len(shape) < 8
        or not all(type(size) is int and size > 0 for size in shape)
    ):
        return "the shape of the output is not a list of sizes"
    if shape[-1] != len(info["labels"]) or math.prod(shape) > MOST_BYTES:
        return "the shape of the output does not fit 'labels'"
    if not isinstance(info.get("options"), dict) or not isinstance(info.get("notes"), dict):
        return "'options' and 'notes' of the task are missing"
    return None


def _wrong_artefact(row: Mapping[str, Any], files: Mapping[str, Any]) -> str | None:
    name = row["file"]
    if name not in ARTEFACTS:
        return f"{name!r} is no artefact of an export; known are {', '.join(sorted(ARTEFACTS))}"
    if not (name in files or (name.endswith("/") and any(file.startswith(name) for file in files))):
        return f"the artefact {name!r} is not among 'files'"
    if row["precision"] not in PRECISIONS:
        return f"the artefact {name!r} has the unknown precision {row['precision']!r}"
    if not isinstance(row.get("bytes"), int):
        return f"the artefact {name!r} has no size"
    tolerance = row.get("tolerance")
    fields = {field.name for field in dataclasses.fields(Tolerance)}
    if not isinstance(tolerance, dict) or set(tolerance) != fields:
        return f"the artefact {name!r} has no tolerance"
    if not all(value is None or type(value) in (int, float) for value in tolerance.values()):
        return f"the tolerance of {name!r} is no number"
    return None


def _texts(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(value, str) for value in values)


def _inside(name: str) -> bool:
    """A plain relative POSIX path: no ``..``, no drive, no backslash."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts and not set(name) & set("\\:\0")
