"""A bundle folder, opened: what it promises is checked before anything in it is used.

Its list is read with a limit on its size; names that lead outside the folder, links, and files that are not the
recorded ones are refused; ``.keras`` files load without running the code in them (Keras's safe mode). That finds damage
and clumsy hands. Who can rewrite the list can rewrite the hashes: a SavedModel is a program and its script is one,
so a bundle of someone you do not trust is not made safe by this.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from keras_transfer.decoding import ImageError
from keras_transfer.errors import BundleError, DataError, UsageError, unknown_name
from keras_transfer.export import manifest
from keras_transfer.export.golden import step_for
from keras_transfer.export.listing import is_bundle, read_json, read_listing
from keras_transfer.hashing import size_and_sha256
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.records import ArtefactRecord, BundleRecord, TargetRecord
from keras_transfer.records.layout import BUNDLE, EXPECTED, LABELS, TARGETS

BATCH = 32


class Bundle:
    """A checked bundle.

    Attributes:
        path: the folder.
        record: what ``bundle.json`` says; ``info`` is its content as it is.
        labels: the names of the outputs, in order.
        shape: of one image's output.
        preprocessing: how an image becomes pixels.
        generates: its models take numbers and make images; ``golden/golden.json`` has some such ``inputs``.
        artefacts: the models, in the order of the export.
        made: models that were made of them for other runtimes.
    """

    def __init__(self, path: Path, info: Mapping[str, Any], record: BundleRecord) -> None:
        self.path, self.info, self.record = path, info, record
        self.labels = record.contract.names
        self.shape = record.contract.shape
        self.preprocessing: Preprocessing = record.contract.preprocessing
        self.generates = record.generates
        self.artefacts = record.artefacts
        self.made = tuple(self._model(one) for one in record.targets if one.model)

    def _model(self, target: TargetRecord) -> ArtefactRecord:
        """A target's model; one that was compared on the golden images alone has its source's precision."""
        if target.artefact is not None:
            return target.artefact
        size = self.record.files[target.model]["bytes"]
        return replace(self.artefact(target.source), file=target.model, bytes=size)

    def artefact(self, file: str | None = None) -> ArtefactRecord:
        """The artefact of that name; by default the first ``.tflite``, or the first of all.

        Raises ``UsageError`` for an unknown name.
        """
        if file is None:
            return next((one for one in self.artefacts if one.file.endswith(".tflite")), self.artefacts[0])
        models = (*self.artefacts, *getattr(self, "made", ()))
        for one in models:
            if file in (one.file, one.file.rstrip("/")):
                return one
        raise unknown_name("artefact", file, [one.file for one in models])

    def runtime(self, file: str | None = None) -> Any:
        """An artefact in the runtime it is made for: ``predict(pixels)``. See :func:`load_runner`."""
        from keras_transfer.inference import load_runner

        return load_runner(self.path / self.artefact(file).file)

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
        golden = read_json(self.path / EXPECTED)
        names = [one.file for one in self.artefacts]
        try:
            files = [
                row[name] for row in golden["images"] for name in ("image", "input") if not self.generates
            ]
            files += [row["decoded"] for row in golden["images"] if "decoded" in row]
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
            strangers = [name for name in files if name not in self.record.files]
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
    bundle = list_bundle(folder)
    check_files(folder, bundle.record.files)
    labels = (folder / LABELS).read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    if labels != list(bundle.labels):
        raise BundleError(f"{folder / LABELS} has other labels than {BUNDLE}. Export again.")
    return bundle


def list_bundle(folder: Path) -> Bundle:
    """A bundle of which ``bundle.json`` alone was checked; the files it names are not looked at.

    Errors: see :func:`load_bundle`.
    """
    info, record = read_listing(folder)
    try:
        return Bundle(folder, info, record)
    except DataError as error:
        raise BundleError(f"{folder / BUNDLE}: {error}") from None


def bundle_of(path: Path) -> Path | None:
    """The bundle that a model file, or a SavedModel folder, lies in: beside its ``bundle.json``, or in the folder of a
    target; None where there is none."""
    if is_bundle(path.parent):
        return path.parent
    above = path.parents[2:3]
    return above[0] if above and path.parents[1].name == TARGETS and is_bundle(above[0]) else None


def check_model_file(path: Path) -> None:
    """A model file or SavedModel folder of a bundle, checked against its recorded hashes; others are let pass.

    Of a target's model all files of that name are checked: OpenVINO has two.

    Raises ``BundleError`` when it is not what was exported.
    """
    folder = bundle_of(path)
    if folder is None:
        return
    files, name = list_bundle(folder).record.files, path.relative_to(folder).as_posix()
    alike = f"{PurePosixPath(name).with_suffix('')}." if folder != path.parent else f"{name}/"
    check_files(folder, {file: row for file, row in files.items() if file == name or file.startswith(alike)})


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
    if path.stat().st_size != recorded["bytes"] or size_and_sha256(path)[1] != recorded["sha256"]:
        return "is not the file that was exported"
    return None


def unlisted(folder: Path, files: Mapping[str, Any]) -> list[str]:
    """Files in the folder that ``bundle.json`` does not list, but for the card; sorted."""
    paths = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    found = (path.relative_to(folder).as_posix() for path in paths)
    return sorted(name for name in found if name not in files and name not in manifest.UNLISTED)
