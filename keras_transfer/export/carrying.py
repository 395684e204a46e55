"""A file that a bundle carries besides what the export made: written, and listed with its hash."""

from __future__ import annotations

import json
from pathlib import Path

from keras_transfer.errors import ExportError, UsageError
from keras_transfer.export.bundle import Bundle
from keras_transfer.hashing import size_and_sha256
from keras_transfer.paths import atomic_write
from keras_transfer.records.layout import BUNDLE, CARRIED, OURS


def carry(bundle: Bundle, name: str, content: bytes) -> Path:
    """Put a file into a bundle, or replace the one it carries; ``bundle.json`` lists it, and ``verify`` checks it.

    An interruption between the two leaves a bundle that ``verify`` complains of until this is repeated.

    An export that overwrites the bundle drops what it carries.

    Args:
        bundle: as :func:`keras_transfer.export.bundle.load_bundle` opened it.
        name: of the file, without folders.
        content: of it.

    Returns:
        The file.

    Raises:
        UsageError: the name is one that the export uses, or has folders.
        ExportError: the disk refuses.
    """
    if name in OURS or name == bundle.record.script or Path(name).name != name:
        raise UsageError(f"A bundle cannot carry a file called {name!r}; choose another name.")
    path = bundle.path / name
    try:
        atomic_write(path, content)
        size, sha256 = size_and_sha256(path)
        files = {**bundle.record.files, name: {"bytes": size, "sha256": sha256}}
        carried = sorted({*bundle.record.carried, name})
        info = {**bundle.info, CARRIED: carried, "files": dict(sorted(files.items()))}
        atomic_write(
            bundle.path / BUNDLE, json.dumps(info, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        )
    except OSError as error:
        raise ExportError(f"Cannot write to {bundle.path}: {error.strerror or error}.") from error
    return path
