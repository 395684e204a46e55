"""The run folder: what a training leaves behind, written so that it is either whole or absent.

    RUN/
      run.json       what was asked, what was found, what was chosen, what was measured
      model.keras    pixels -> probabilities; loads with Keras alone (AlexNet, ZFNet, GoogLeNet: and this package)
      backbone_int8.tflite   with --deploy int8: the backbone the head was fitted on
      split.csv      every image with its label, split, group, weight and SHA-256
      history.csv    one row per epoch
      skipped.csv    files that could not be used, with the reason
      plots/
      predictions.npy   the answers to the images that the metrics are of, in the order of split.csv
      report.html    all of it to look at

While it is being made the folder is called ``.RUN.partial`` beside its final place, and holds ``request.json``
(what was asked) and ``state/`` (checkpoints). The same command takes it up again; another command is refused.
Both are renamed or removed at the end.
"""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_transfer.errors import RunError, UsageError
from keras_transfer.paths import atomic_write, replace_folder
from keras_transfer.records import DamagedError, RunRecord

SCHEMA = 1
INFO, MODEL, BACKBONE, SPLIT, HISTORY, SKIPPED, PLOTS = (
    "run.json",
    "model.keras",
    "backbone_int8.tflite",
    "split.csv",
    "history.csv",
    "skipped.csv",
    "plots",
)
PREDICTIONS, REPORT = "predictions.npy", "report.html"


_PASSING = ("state", "request.json")
"""What is in an unfinished run's folder alone."""


class Run:
    """A finished run folder, opened for reading.

    Attributes:
        path: the folder.
        record: what ``run.json`` says.
        info: its content as it is.
    """

    def __init__(self, path: Path, info: Mapping[str, Any], record: RunRecord) -> None:
        self.path = path
        self.info = info
        self.record = record

    @property
    def model_path(self) -> Path:
        """The trained Keras model, pixels to probabilities."""
        return self.path / MODEL

    @property
    def split_path(self) -> Path:
        """The recorded split, a CSV that ``load_data(split_from=...)`` takes."""
        return self.path / SPLIT

    @property
    def learned_from(self) -> tuple[str, ...]:
        """The splits whose images the model learned from: a probe that was fitted again has seen validation, too."""
        return ("train", "val") if self.record.contract.notes.get("refit", {}).get("images") else ("train",)

    def load_model(self) -> Any:
        """The Keras model. Heavy: imports Keras."""
        import keras

        import keras_transfer.backbones.classic  # noqa: F401 - makes its layer known to Keras

        return keras.models.load_model(self.model_path, compile=False)


def is_run(path: Path) -> bool:
    """Whether the folder holds a finished run, whole or damaged; another tool's ``run.json`` makes none."""
    if not (path / INFO).is_file():
        return False
    try:
        info = json.loads((path / INFO).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return (path / MODEL).is_file() or (path / SPLIT).is_file()
    return isinstance(info, dict) and "schema" in info


def open_run(path: str | Path) -> Run:
    """Open a finished run folder.

    Raises:
        UsageError: there is no such folder, or it is not a run.
        RunError: it is damaged, or written by a newer version.
    """
    path = Path(path)
    hint = ""
    if _partial(path).is_dir():
        hint = " An unfinished run is beside it: run the same `train` command again to finish it."
    if not path.is_dir():
        raise UsageError(
            f"{path}: no such folder. A run folder made by `keras-transfer train` is expected.{hint}"
        )
    if not (path / INFO).is_file():
        raise UsageError(f"{path} is not a run folder: it has no {INFO}.{hint}")
    try:
        info = json.loads((path / INFO).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path / INFO} cannot be read ({error}). Train again, or restore the file.") from None
    if not isinstance(info, dict) or "schema" not in info:
        raise RunError(f"{path / INFO} was not written by keras-transfer: it has no schema number.")
    if info["schema"] > SCHEMA:
        raise RunError(
            f"{path} was written by a newer keras-transfer (schema {info['schema']}; this one reads up to "
            f"{SCHEMA}). Upgrade keras-transfer."
        )
    if not (path / MODEL).is_file():
        raise RunError(f"{path} is incomplete: {MODEL} is missing. Train again, or restore the file.")
    try:
        return Run(path, info, RunRecord.parse(info))
    except DamagedError as error:
        raise RunError(f"{path / INFO} is damaged: {error}. Train again, or restore the file.") from None


class RunWriter:
    """A run folder being made. Use :func:`new_run`.

    Attributes:
        path: where files are written now.
        resumed: whether an earlier, interrupted attempt with the same request is being taken up.
    """

    def __init__(self, path: Path, target: Path, resumed: bool) -> None:
        self.path = path
        self.target = target
        self.resumed = resumed
        self.seconds: dict[str, float] = {}

    @property
    def state(self) -> Path:
        """Folder for checkpoints; not part of the finished run."""
        folder = self.path / "state"
        folder.mkdir(exist_ok=True)
        return folder

    @property
    def has_checkpoints(self) -> bool:
        """Whether an interrupted attempt left something to go on from."""
        return self.resumed and _has_state(self.path)

    @property
    def plots(self) -> Path:
        """Folder for pictures."""
        folder = self.path / PLOTS
        folder.mkdir(exist_ok=True)
        return folder

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the wall-clock seconds of a stage; they end up in ``run.json``."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin

    def write_rows(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write dictionaries as a CSV file; the columns are the keys in order of appearance."""
        columns = list(dict.fromkeys(key for row in rows for key in row))
        with (self.path / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)

    def write_record(self, record: RunRecord) -> None:
        """Write ``run.json``: last, because a folder with it counts as finished. It lists what is in the folder."""
        files = sorted({INFO, *(path.name for path in self.path.iterdir() if path.name not in _PASSING)})
        text = json.dumps(
            {"schema": SCHEMA, **record.to_dict(), "files": files},
            indent=2,
            ensure_ascii=False,
            allow_nan=False,
        )
        atomic_write(self.path / INFO, text + "\n")


@contextlib.contextmanager
def new_run(
    target: str | Path, request: Mapping[str, Any], *, overwrite: bool = False
) -> Iterator[RunWriter]:
    """Make a run folder; it appears under its name when the block ends without an error.

    An error or an interruption keeps ``.NAME.partial`` when it holds checkpoints: the same request takes it up
    again. Without any there is nothing to keep, and it is removed.

    Args:
        target: the folder to make.
        request: everything that decides the result (JSON-able); two attempts with equal requests are one run.
        overwrite: replace a finished run, or drop an unfinished one with another request.

    Raises:
        UsageError: the folder exists and holds a run (without ``overwrite``), or anything that no training made; or
            an unfinished run with another request is in the way; or another process is writing this run.
    """
    import filelock

    target = Path(target).absolute()
    if target.exists() and not (target.is_dir() and (is_run(target) or not any(target.iterdir()))):
        raise UsageError(
            f"{target} exists and is not a run folder. Choose another --output; nothing was touched."
        )
    if is_run(target) and not overwrite:
        raise UsageError(
            f"{target} already holds a finished run. Choose another --output, or pass --overwrite."
        )
    _refuse_strangers(target)
    partial = _partial(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(target.parent / f".{target.name}.lock")
        lock.acquire(blocking=False)
    except filelock.Timeout:
        raise UsageError(
            f"{target}: another process is writing this run. Wait for it, or choose another --output."
        ) from None
    except OSError as error:
        raise UsageError(
            f"{target}: the folder cannot be written ({error.strerror}). Choose another --output."
        ) from None
    try:
        resumed = _prepare(partial, request, overwrite)
        writer = RunWriter(partial, target, resumed)
        yield writer
        _commit(writer)
    finally:
        if partial.exists() and not _has_state(partial) and not is_run(partial):
            shutil.rmtree(partial)
        if not partial.exists():
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _partial(target: Path) -> Path:
    return target.parent / f".{target.name}.partial"


def _refuse_strangers(target: Path) -> None:
    """A run is replaced with all that is in its folder: ``UsageError`` where the user put something there."""
    try:
        known = json.loads((target / INFO).read_text(encoding="utf-8")).get("files")
    except (OSError, ValueError, AttributeError):
        return  # nothing there, or a damaged run
    strangers = sorted({path.name for path in target.iterdir()} - {REPORT, *known}) if known else []
    if strangers:
        shown = ", ".join(strangers[:3]) + (" ..." if len(strangers) > 3 else "")
        raise UsageError(
            f"{target} holds files that no training made ({shown}). Move them, or choose another --output; nothing "
            "was touched."
        )


def _has_state(partial: Path) -> bool:
    return any(path.is_file() for path in (partial / "state").rglob("*"))


def _prepare(partial: Path, request: Mapping[str, Any], overwrite: bool) -> bool:
    wanted = json.dumps(request, sort_keys=True, ensure_ascii=False)
    asked = partial / "request.json"
    if asked.is_file():
        if asked.read_text(encoding="utf-8") == wanted:
            return True
        if _has_state(partial) and not overwrite:
            before, now = json.loads(asked.read_text(encoding="utf-8")), json.loads(wanted)
            raise UsageError(
                f"{partial} holds an unfinished run with other settings ({_difference(before, now)}). Repeat that "
                "command to finish it, pass --overwrite to drop it, or choose another --output."
            )
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir()
    atomic_write(asked, wanted)
    return False


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    parts = []
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            parts.append(_difference(old, new))
        else:
            parts.append(f"{key}: {old!r} then, {new!r} now")
    return "; ".join(parts)


def _commit(writer: RunWriter) -> None:
    if not is_run(writer.path):
        raise RunError(f"{writer.path}: {INFO} was not written; the run is not finished.")
    _refuse_strangers(writer.target)  # again: something may have been put there meanwhile
    replace_folder(writer.path, writer.target)
    writer.path = writer.target
    shutil.rmtree(writer.path / "state", ignore_errors=True)
    (writer.path / "request.json").unlink(missing_ok=True)
