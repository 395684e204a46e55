"""``bundle.json``, read and checked by itself: what a bundle says it is. Light."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from keras_transfer.errors import BundleError, UsageError
from keras_transfer.records import BundleRecord, DamagedError
from keras_transfer.records.bundle import KIND, SCHEMA
from keras_transfer.records.layout import BUNDLE, PARITY

MOST_BYTES = 256_000_000
"""``bundle.json`` and ``golden.json`` may be so large: enough for 10,000 classes in every precision."""


def is_bundle(path: Path) -> bool:
    """Whether there is a ``bundle.json`` in the folder."""
    return (path / BUNDLE).is_file()


def read_listing(folder: Path) -> tuple[dict[str, Any], BundleRecord]:
    """The content of ``bundle.json``, and what it says; the files it names are not looked at.

    Raises:
        UsageError: there is no bundle at that path.
        BundleError: it is damaged, or of a newer version.
    """
    if not is_bundle(folder):
        failed = " It holds the evidence of an export that failed." if (folder / PARITY).is_file() else ""
        raise UsageError(
            f"{folder} is not a bundle: it holds no {BUNDLE}.{failed} `keras-transfer export RUN --to DIR` makes "
            "one."
        )
    info = read_json(folder / BUNDLE)
    schema = info.get("schema")
    if info.get("kind") != KIND or not isinstance(schema, int) or schema < 1:
        raise BundleError(f"{folder / BUNDLE} was not written by an export of keras_transfer.")
    if schema > SCHEMA:
        raise BundleError(
            f"{folder} has schema {schema}; this keras_transfer knows up to {SCHEMA}. Update keras_transfer."
        )
    try:
        return info, BundleRecord.parse(info)
    except DamagedError as error:
        raise BundleError(f"{folder / BUNDLE} is damaged: {error}. Export again.") from None


def read_json(path: Path) -> dict[str, Any]:
    """An object in a JSON file of a bundle. Raises ``BundleError`` for a link, and for any other content."""
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
