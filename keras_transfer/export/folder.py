"""The export folder: it appears whole or not at all, and never replaces anything but an earlier export."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from keras_transfer.errors import ExportError, UsageError
from keras_transfer.paths import new_folder_beside, replace_folder
from keras_transfer.records import BundleRecord
from keras_transfer.records.layout import BUNDLE, OURS, PARITY


def check_destination(to: Path, overwrite: bool) -> None:
    """Whether an export may be written there, before any work is done.

    A missing or empty folder will do, and one that holds nothing but the evidence of a failed export.

    Raises:
        UsageError: it is a file, or not empty and ``overwrite`` was not given, or it holds files that no export made.
    """
    if not to.exists():
        return
    if not to.is_dir():
        raise UsageError(f"{to} is a file; a folder is expected.")
    found = {path.name for path in to.iterdir()}
    if not found - {PARITY}:
        return
    strangers = sorted(found - OURS - _brought(to) if {BUNDLE, PARITY} & found else found)
    if strangers:
        shown = ", ".join(strangers[:3]) + (" ..." if len(strangers) > 3 else "")
        raise UsageError(f"{to} holds files that no export made ({shown}). Choose another folder.")
    if not overwrite:
        raise UsageError(
            f"{to} already holds an export. Choose another folder, or overwrite it (--overwrite)."
        )


def _brought(folder: Path) -> set[str]:
    """The script that a task brought into this bundle, and what it carries: no names that are known beforehand."""
    try:
        record = BundleRecord.parse(json.loads((folder / BUNDLE).read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return set()  # no bundle, or a damaged one: its script is a stranger, and the user decides
    script = record.script or ""
    return {*([script] if script.endswith(".py") else []), *record.carried}


@contextlib.contextmanager
def new_folder(to: Path, overwrite: bool) -> Iterator[Path]:
    """A temporary folder beside ``to`` that takes its place when the block ends well, and is gone otherwise.

    Raises:
        UsageError: see :func:`check_destination`.
        ExportError: the disk refuses (full, read-only, no permission).
    """
    with contextlib.ExitStack() as stack:
        try:
            partial = stack.enter_context(new_folder_beside(to))
        except OSError as error:
            raise ExportError(f"Cannot write to {to.parent}: {error.strerror or error}.") from error
        yield partial
        check_destination(to, overwrite)  # again: another export may have ended meanwhile
        replace_folder(partial, to)


def keep_only_evidence(folder: Path) -> None:
    """Leave nothing but ``parity.json``: what failed must not look finished."""
    for path in folder.iterdir():
        if path.name == PARITY:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
