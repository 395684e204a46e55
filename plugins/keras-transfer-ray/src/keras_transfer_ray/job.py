"""One piece of work on many files: what is there already, the cluster that does the rest, and what came out.

DIR/job.json             what the work is: command, network, pixels, files
DIR/manifest.parquet     the files, as the driver found them
DIR/model-HASH.tflite    what the workers run
DIR/shards/*.parquet     what came out, a shard a file; its name tells what it was computed from
DIR/lease.json           while a driver is at it
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from keras_transfer.data.checking import Checked
from keras_transfer.data.table import PathImages
from keras_transfer.data.threads import ordered_map
from keras_transfer.errors import DataError, ExportError, KerasTransferError, UsageError
from keras_transfer.hashing import sha256_of, sha256_of_json
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.progress import track
from keras_transfer.records.features import FEATURES, IMAGES, LEFT_OUT, ShardRecord
from keras_transfer_ray.cluster import joined
from keras_transfer_ray.lease import LEASE, leased
from keras_transfer_ray.settings import ClusterSettings
from keras_transfer_ray.shards import FOLDER, listed, pieces, unpacked
from keras_transfer_ray.store import Store
from keras_transfer_ray.worker import Work, Worker, versions

logger = logging.getLogger("keras_transfer")

JOB, MANIFEST, PREDICTIONS = "job.json", "manifest.parquet", "predictions.jsonl"
REPORT = ("report.html", "issues.csv", "groups.csv")
FORMAT = 1
_ERRORS = {"data": DataError, "disk": KerasTransferError, "node": KerasTransferError, "model": ExportError}


@dataclass(frozen=True)
class Model:
    """What the workers run.

    Attributes:
        content: a ``.tflite``.
        identity: hash of the network, or of the file.
        preprocessing: how a file becomes its pixels.
    """

    content: bytes
    identity: str
    preprocessing: Preprocessing

    @property
    def name(self) -> str:
        """Of its file in the output folder."""
        return f"model-{sha256_of(self.content)[:16]}.tflite"


@dataclass
class Outcome:
    """What became of a piece of work.

    Attributes:
        shards: in the order of the files.
        computed: files computed now; those of shards that were there are not among them.
        computed_shards: shards computed now.
        workers: that were asked for; 0: nothing was left to do.
        answers: what workers told, a line a shard, as :class:`Worker` gives them.
    """

    shards: list[ShardRecord] = field(default_factory=list)
    computed: int = 0
    computed_shards: int = 0
    workers: int = 0
    seconds: float = 0.0
    answers: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: what is told of any work."""
        return {
            "shards": len(self.shards),
            "computed_shards": self.computed_shards,
            "computed": self.computed,
            "workers": self.workers,
            "seconds": round(self.seconds, 3),
        }


@contextlib.contextmanager
def opened(command: str, output: str, cluster: ClusterSettings, *, overwrite: bool = False) -> Iterator[Job]:
    """The work on an output folder, whose lease is held as long.

    Raises:
        UsageError: the folder holds something else, or another driver writes it.
        KerasTransferError: it cannot be written.
    """
    store = Store(output)
    try:
        _require_ours(store, command)
        with leased(store):
            job = Job(command, store, cluster)
            if overwrite:
                job.clear()
            yield job
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = "the disk is full; free some space" if full else str(error.strerror or error)
        raise KerasTransferError(
            f"{store.shown} cannot be written: {why}. What was finished is kept: run the same command again, and it "
            "goes on from there."
        ) from error


def _require_ours(store: Store, command: str) -> None:
    if store.folder is not None and store.folder.exists() and not store.folder.is_dir():
        raise UsageError(f"{store.shown} is a file; a folder is expected. Choose another --output.")
    there = [name for name in store.names() if name != LEASE]
    if not there:
        return
    if JOB not in there:
        raise UsageError(
            f"{store.shown} holds {there[0]}, which `keras-transfer ray` did not write. Choose another --output."
        )
    found = _read_json(store, JOB).get("command")
    if found != command:
        raise UsageError(
            f"{store.shown} holds what `keras-transfer ray {found}` wrote. Choose another --output for "
            f"`keras-transfer ray {command}`."
        )


class Job:
    """The work on one output folder. :func:`opened` makes it."""

    def __init__(self, command: str, store: Store, cluster: ClusterSettings) -> None:
        self.store = store
        self._command = command
        self._cluster = cluster

    def clear(self) -> None:
        """Remove what an earlier call wrote, and nothing else."""
        for name in self.store.names(FOLDER):
            self.store.remove(f"{FOLDER}/{name}")
        ours = {JOB, MANIFEST, FEATURES, IMAGES, LEFT_OUT, PREDICTIONS, *REPORT}
        for name in self.store.names():
            if name in ours or (name.startswith("model-") and name.endswith(".tflite")):
                self.store.remove(name)

    def run(self, images: PathImages, model: Model, *, looks: bool = False) -> Outcome:
        """Compute the shards that are not there yet.

        Args:
            images: the files, unchecked.
            looks: also note how each picture looks.

        Raises:
            UsageError: the folder holds the work on other data or of another network, or the cluster cannot be had.
            DataError: a file changed meanwhile. KerasTransferError: a disk is full, a node is not as the others.
        """
        began = time.perf_counter()
        self._require_outside(images.root)
        manifest = listed(images)
        told = {
            "format": FORMAT,
            "command": self._command,
            "network": model.identity,
            "preprocessing": model.preprocessing.fingerprint(),
            "versions": versions(),
            "shard_images": self._cluster.shard_images,
            "data": sha256_of(repr(manifest.select(["name", "size", "mtime"]).to_pylist()).encode()),
        }
        self._begin(told, manifest, model)
        key = sha256_of_json(
            {name: told[name] for name in ("command", "network", "preprocessing", "versions")}
        )
        wanted = dict(pieces(manifest, key, self._cluster.shard_images))
        found = self._found(wanted)
        outcome = Outcome()
        todo = [name for name in wanted if name not in found]
        if todo:
            work = Work(
                output=self.store.address,
                model=model.name,
                sha256=sha256_of(model.content),
                pixels=model.preprocessing.to_dict(),
                root=str(images.root.absolute()),
                threads=self._cluster.cpus_per_worker,
                looks=looks,
                versions=versions(),
            )
            told_of = by_ray([wanted[name] for name in todo], work, self._cluster, outcome)
            for answer in track(told_of, "Computing shards", total=len(todo)):
                if answer["kind"]:
                    told_of.close()
                    raise _ERRORS[answer["kind"]](answer["fault"])
                outcome.answers.append(answer)
                outcome.computed_shards += bool(answer["computed"])
                outcome.computed += (answer["images"] + answer["bad"]) * bool(answer["computed"])
                found[answer["shard"]] = ShardRecord(
                    answer["shard"], answer["images"] + answer["bad"], answer["sha256"]
                )
        outcome.shards = [found[name] for name in wanted]
        outcome.seconds = time.perf_counter() - began
        return outcome

    def tables(self, shards: Sequence[ShardRecord]) -> Iterator[pyarrow.Table]:
        """The content of shards, in order, each believed by its checksum. Raises ``KerasTransferError``."""

        def one(shard: ShardRecord) -> pyarrow.Table:
            try:
                content = self.store.read(f"{FOLDER}/{shard.name}")
                if sha256_of(content) != shard.sha256:
                    raise ValueError("its checksum does not match")
                return unpacked(shard.name, content)
            except (OSError, ValueError) as error:
                raise KerasTransferError(
                    f"{self.store.shown}: the shard {shard.name} cannot be read: {error}. Run the same command again: "
                    "only this shard is computed."
                ) from error

        return ordered_map(one, shards, ahead=8)

    def _require_outside(self, root: Path) -> None:
        folder = self.store.folder
        if folder is not None and root.resolve() in (folder.resolve(), *folder.resolve().parents):
            raise UsageError(f"{self.store.shown} is in {root}, where the data are. Choose another --output.")

    def _begin(self, told: dict[str, Any], manifest: pyarrow.Table, model: Model) -> None:
        """Note what the work is; or make sure that it is the one that was begun."""
        if self.store.exists(JOB):
            before = _read_json(self.store, JOB)
            if any(before.get(name) != value for name, value in told.items()):
                raise UsageError(
                    f"{self.store.shown} holds the work {self._difference(before, told, manifest)}. Choose another "
                    "--output, or start again with --overwrite."
                )
        else:
            sink = io.BytesIO()
            pyarrow.parquet.write_table(manifest, sink)
            self.store.write(MANIFEST, sink.getvalue())
            self.store.write(JOB, json.dumps(told, indent=1).encode())
        for name in self.store.names(FOLDER):
            if name.startswith("."):  # of a worker that died
                self.store.remove(f"{FOLDER}/{name}")
        if not self.store.exists(model.name):
            self.store.write(model.name, model.content)

    def _difference(self, before: dict[str, Any], told: dict[str, Any], manifest: pyarrow.Table) -> str:
        if before.get("network") != told["network"]:
            return "of another network: its layers or its weights differ"
        if before.get("preprocessing") != told["preprocessing"]:
            return "on images that were prepared in another way: their size, resizing or decoding differ"
        if before.get("data") != told["data"]:
            return f"on other data: {self._other_files(manifest)}"
        if before.get("shard_images") != told["shard_images"]:
            return f"in shards of {before.get('shard_images')} images; --shard-images {told['shard_images']} was given"
        return "of other versions of keras-transfer-ray or of the packages that compute"

    def _other_files(self, manifest: pyarrow.Table) -> str:
        try:
            old = pyarrow.parquet.read_table(io.BytesIO(self.store.read(MANIFEST)))
        except (OSError, pyarrow.ArrowException):
            return "the files differ"
        before, now = (
            {row["name"]: (row["size"], row["mtime"]) for row in one.to_pylist()} for one in (old, manifest)
        )
        changes = {
            "new": sorted(now.keys() - before.keys()),
            "gone": sorted(before.keys() - now.keys()),
            "changed": sorted(name for name in now.keys() & before.keys() if now[name] != before[name]),
        }
        told = [
            f"{len(names)} files are {what}, such as {names[0].decode('utf-8', 'backslashreplace')}"
            for what, names in changes.items()
            if names
        ]
        return "; ".join(told) or "their order differs"

    def _found(self, wanted: dict[str, pyarrow.Table]) -> dict[str, ShardRecord]:
        """The shards that are whole; a damaged one goes, with a warning."""
        there = [name for name in self.store.names(FOLDER) if name in wanted]

        def one(name: str) -> ShardRecord | str:
            try:
                content = self.store.read(f"{FOLDER}/{name}")
                if len(unpacked(name, content)) != len(wanted[name]):
                    raise ValueError("files are missing in it")
            except (OSError, ValueError) as error:
                return str(error)
            return ShardRecord(name, len(wanted[name]), sha256_of(content))

        found = {}
        for name, shard in zip(there, ordered_map(one, there, ahead=8), strict=True):
            if isinstance(shard, str):
                logger.warning("%s/%s is damaged and is computed again: %s", FOLDER, name, shard)
                self.store.remove(f"{FOLDER}/{name}")
            else:
                found[name] = shard
        return found


def by_ray(
    blocks: Sequence[pyarrow.Table], work: Work, cluster: ClusterSettings, outcome: Outcome
) -> Generator[dict[str, Any], None, None]:
    """What workers tell of blocks, each a shard, as they are done; how many there are is noted in ``outcome``.

    Raises ``KerasTransferError`` and its kinds where the cluster cannot be had, or gives up.
    """
    with joined(cluster) as workers:
        import ray

        outcome.workers = min(workers, len(blocks))
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        data = ray.data.from_arrow(list(blocks)).map_batches(
            Worker,
            batch_size=None,  # a block, and each is a shard
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ray.data.ActorPoolStrategy(size=outcome.workers),
            num_cpus=cluster.cpus_per_worker,
            fn_constructor_args=(work,),
        )
        try:
            yield from data.iter_rows()
        except ray.exceptions.RayError as error:
            raise _as_sentence(error) from error


def _as_sentence(error: BaseException) -> KerasTransferError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    missing = next((line for line in lines if "No module named" in line), None)
    if missing is not None:
        return KerasTransferError(
            f"The workers cannot begin: {missing}. Every machine of the cluster needs keras-transfer and "
            "keras-transfer-ray, in the same versions."
        )
    reason = (lines[-1] if lines else type(error).__name__)[:300]
    return KerasTransferError(
        f"The cluster gave up ({type(error).__name__}: {reason}). What was finished is kept: run the same command "
        "again, and it goes on from there."
    )


def checked(tables: Iterator[pyarrow.Table]) -> list[Checked]:
    """What became of every file, as the check of one machine tells it."""
    found = []
    for table in tables:
        columns = (table.column(name).to_pylist() for name in ("sha256", "reason", "deep"))
        found += [Checked(sha256, reason, deep) for sha256, reason, deep in zip(*columns, strict=True)]
    return found


def _read_json(store: Store, name: str) -> dict[str, Any]:
    try:
        found = json.loads(store.read(name))
    except (OSError, ValueError):
        found = None
    return found if isinstance(found, dict) else {}
