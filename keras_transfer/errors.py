"""Every exception this package raises on purpose.

    KerasTransferError            exit code 1: the work failed
    ├── UsageError                exit code 2: an argument is wrong (unknown name, missing path, impossible value)
    ├── DataError                 the images or the labels cannot be used
    ├── WeightsError              weights are missing, unreadable, or made for another architecture
    │   └── OfflineError          a download would be needed and is forbidden
    ├── CacheError                the cache cannot be read or written (disk full, permission)
    ├── RunError                  a run folder is damaged or belongs to another command
    ├── ExportError               a converter failed, or an artefact cannot be read
    │   ├── ParityError           an artefact does not answer like the Keras model
    │   └── BundleError           a bundle is damaged, incomplete, or not what was exported
    └── PluginError               a plugin is broken, duplicated, or made for another contract

A message says what was given, what was expected, and what to do next. The
command line prints the message alone and exits with ``exit_code``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class KerasTransferError(Exception):
    """Base of all errors raised on purpose. ``exit_code`` is what the command line exits with."""

    exit_code = 1


class UsageError(KerasTransferError):
    """An argument is wrong: an unknown name, a missing path, an impossible value."""

    exit_code = 2


class DataError(KerasTransferError):
    """The images or the labels cannot be used."""


class WeightsError(KerasTransferError):
    """Weights are missing, unreadable, or made for another architecture."""


class OfflineError(WeightsError):
    """A download would be needed and is forbidden."""


class CacheError(KerasTransferError):
    """The cache cannot be read or written."""


class RunError(KerasTransferError):
    """A run folder is damaged, incomplete, or belongs to another command."""


class ExportError(KerasTransferError):
    """A converter failed, or an exported artefact cannot be read."""


class ParityError(ExportError):
    """An exported artefact does not answer like the Keras model."""


class BundleError(ExportError):
    """A bundle is damaged, incomplete, of a newer version, or not what was exported."""


class PluginError(KerasTransferError):
    """A plugin is broken, duplicated, or made for another version of the contract."""


_MANY = 100
"""Names that a message can list."""


def require_utf8(what: str, text: str) -> None:
    """Raise ``UsageError`` for a text that a UTF-8 file cannot hold, as file names that are not UTF-8 give it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(f"The {what} {text!r} cannot be written as UTF-8; give another.") from None


def unknown_name(what: str, given: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is not in a list: the closest matches first, then how many there are.

    >>> print(unknown_name("backbone", "resnet5", ["resnet50", "vgg16"]))
    There is no backbone 'resnet5'. Did you mean resnet50? Known: resnet50, vgg16.
    """
    names = sorted(known)
    close = difflib.get_close_matches(given.lower(), names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    known_names = f"Known: {', '.join(names) or 'none'}" if len(names) <= _MANY else f"{len(names)} are known"
    return UsageError(f"There is no {what} {given!r}.{hint} {known_names}.")
