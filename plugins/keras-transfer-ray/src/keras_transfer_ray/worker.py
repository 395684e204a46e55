"""What a worker does with a shard. It runs LiteRT alone: importing TensorFlow would take 790 MB and seconds a worker.

Whatever can go wrong with one file is a row of the shard; whatever concerns all of them is a fault, which the driver
reads and turns into an error. Nothing is raised, so Ray repeats only what a dead worker or node has left undone.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pyarrow

from keras_transfer.checking.pictures import look_at_file
from keras_transfer.data.checking import check_file
from keras_transfer.data.threads import ordered_map
from keras_transfer.decoding import ImageError, read_image_bytes
from keras_transfer.errors import KerasTransferError
from keras_transfer.hashing import sha256_of
from keras_transfer.litert_model import LiteRTModel, best_batch
from keras_transfer.preprocessing import Preprocessing
from keras_transfer_ray.shards import FOLDER, MISSING, Seen, packed, unpacked
from keras_transfer_ray.store import Store

_COPIES_BYTES = 400_000_000  # of weights, in all interpreters of a worker together
PACKAGES = ("ai-edge-litert", "numpy", "Pillow")
"""What the numbers depend on, beside the processor."""


def versions() -> dict[str, str]:
    """Of the packages that the numbers depend on."""
    return {name: metadata.version(name) for name in PACKAGES}


@dataclass(frozen=True)
class Work:
    """What a worker is told; small, and the same for all.

    Attributes:
        output: the address of the folder that shards go to.
        model: name there of the ``.tflite``. sha256: of its bytes.
        pixels: the preprocessing, as ``Preprocessing.to_dict`` gives it.
        root: the folder that all files are in; a node without it does not see the data.
        threads: CPUs of the worker.
        looks: also note how each picture looks.
        versions: of the driver's packages.
    """

    output: str
    model: str
    sha256: str
    pixels: Mapping[str, Any]
    root: str
    threads: int
    looks: bool
    versions: Mapping[str, str]


class FaultError(Exception):
    """What stops the work: ``kind`` is ``data``, ``disk``, ``node`` or ``model``."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Worker:
    """An actor of Ray's: shards in, one line for each out; their content goes to the output folder."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._store = Store(work.output)
        self._preprocessing = Preprocessing.from_dict(work.pixels)
        self._models: _Models | None = None

    def __call__(self, block: pyarrow.Table) -> pyarrow.Table:
        """``block``: the files of one shard. Gives ``shard, sha256, images, bad, computed, kind, fault, node, pid``."""
        name = block.column("shard")[0].as_py()
        answer: dict[str, Any] = {"shard": name, "sha256": "", "images": 0, "bad": 0, "computed": False}
        answer |= {"kind": "", "fault": "", "node": socket.gethostname(), "pid": os.getpid()}
        answer["heavy"] = "tensorflow" in sys.modules
        try:
            answer |= self._done(name) or self._do(name, block)
        except FaultError as fault:
            answer |= {"kind": fault.kind, "fault": str(fault)}
        except KerasTransferError as error:
            answer |= {"kind": "model", "fault": str(error)}
        return pyarrow.Table.from_pylist([answer])

    def _done(self, name: str) -> dict[str, Any] | None:
        """A shard that a worker wrote before it died; None: there is none."""
        try:
            content = self._store.read(f"{FOLDER}/{name}")
            table = unpacked(name, content)
        except (OSError, ValueError):
            return None
        bad = len(table) - table.column("reason").null_count
        return {"sha256": sha256_of(content), "images": len(table) - bad, "bad": bad}

    def _do(self, name: str, block: pyarrow.Table) -> dict[str, Any]:
        if not Path(self._work.root).exists():
            raise FaultError(
                "node",
                f"{socket.gethostname()} does not see {self._work.root}: the data must lie at the same path on every "
                "machine of the cluster. Put them on a disk that all of them share.",
            )
        models = self._opened()
        rows = block.to_pylist()
        chunks = [rows[start : start + models.step] for start in range(0, len(rows), models.step)]
        seen: list[Seen] = []
        for some in ordered_map(
            lambda chunk: self._chunk(chunk, models), chunks, threads=models.copies, ahead=2 * models.copies
        ):
            seen += some
        content = packed(name, seen, models.length)
        self._write(name, content)
        bad = sum(one.reason is not None for one in seen)
        return {"sha256": sha256_of(content), "images": len(seen) - bad, "bad": bad, "computed": True}

    def _chunk(self, rows: Sequence[Mapping[str, Any]], models: _Models) -> list[Seen]:
        """A few files that are computed together."""
        seen, pixels = [], []
        for row in rows:
            one, image = self._one(row)
            seen.append(one)
            if image is not None:
                pixels.append(image)
        if pixels:
            answers = iter(models.predict(np.stack(pixels)))
            for one in seen:
                if one.reason is None:
                    one.values = next(answers)
        return seen

    def _one(self, row: Mapping[str, Any]) -> tuple[Seen, np.ndarray | None]:
        """A file: read, hashed, decoded as the model sees it."""
        path, name = Path(os.fsdecode(row["path"])), row["name"].decode("utf-8", "backslashreplace")
        checked = check_file(path, (), self._preprocessing)
        if row["size"] != MISSING:
            self.require_unchanged(path, row)
        one = Seen(name, checked.sha256, checked.reason, checked.deep)
        if checked.reason is None and self._work.looks:
            try:
                content = read_image_bytes(path)
                one.picture, one.small = look_at_file(content)
            except ImageError as error:
                raise _changed(path) from error
            if sha256_of(content) != checked.sha256:
                raise _changed(path)
        return one, checked.pixels if checked.reason is None else None

    @staticmethod
    def require_unchanged(path: Path, row: Mapping[str, Any]) -> None:
        """Whether the file that was read is the one that the driver listed. Raises :class:`FaultError`."""
        try:
            status = path.stat()
        except FileNotFoundError as error:
            raise FaultError(
                "data",
                f"{path} was there when the work began, and {socket.gethostname()} does not find it. Restore the file "
                "(or put the data on a disk that all machines share), and run the same command again.",
            ) from error
        except OSError:
            return  # what reading it gave is its reason
        if (status.st_size, status.st_mtime_ns) != (row["size"], row["mtime"]):
            raise _changed(path)

    def _opened(self) -> _Models:
        if self._models is None:
            here = versions()
            other = [name for name in PACKAGES if here[name] != self._work.versions[name]]
            if other:
                told = ", ".join(
                    f"{name} {here[name]} (the driver has {self._work.versions[name]})" for name in other
                )
                raise FaultError(
                    "node",
                    f"{socket.gethostname()} has {told}: its numbers would differ. Install the same versions on every "
                    "machine of the cluster.",
                )
            try:
                content = self._store.read(self._work.model)
            except OSError as error:
                raise FaultError(
                    "node",
                    f"{socket.gethostname()} cannot read {self._store.shown}/{self._work.model} "
                    f"({error.strerror or error}): the output folder must be one that every machine of the cluster "
                    "reaches. Give a shared folder, or an address such as s3://BUCKET/FOLDER.",
                ) from error
            if sha256_of(content) != self._work.sha256:
                raise FaultError(
                    "node", f"{self._store.shown}/{self._work.model} is damaged. Run the command again."
                )
            self._models = _Models(content, self._work.threads)
        return self._models

    def _write(self, name: str, content: bytes) -> None:
        try:
            self._store.write(f"{FOLDER}/{name}", content)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            why = "the disk is full; free some space" if full else str(error.strerror or error)
            raise FaultError(
                "disk",
                f"{socket.gethostname()} cannot write to {self._store.shown}: {why}. What was finished is kept: run "
                "the same command again, and it goes on from there.",
            ) from error


class _Models:
    """A model on the worker's CPUs: one single-threaded interpreter each, as one machine has them on its cores.

    Attributes:
        copies: interpreters. step: images that one computes together. length: numbers of an answer.
    """

    def __init__(self, content: bytes, threads: int) -> None:
        self.copies = max(1, min(threads, _COPIES_BYTES // len(content)))
        models = [LiteRTModel(content, threads=threads // self.copies) for _ in range(self.copies)]
        self.step = best_batch(*models[0].input_size)
        self.length = int(np.prod(models[0].outputs[0].shape[1:]))
        self._free: SimpleQueue[LiteRTModel] = SimpleQueue()
        for model in models:
            self._free.put(model)

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 ``(n, H, W, 3)`` to float32 ``(n, ...)``, by an interpreter that is free."""
        model = self._free.get()
        try:
            return model.predict(pixels)
        finally:
            self._free.put(model)


def _changed(path: Path) -> FaultError:
    return FaultError(
        "data",
        f"{path} has changed since the work began: its features would belong to another file. Start again with "
        "--overwrite, when nothing writes to the data any more.",
    )
