"""Progress bars: shown by the command line on a terminal, silent everywhere else.

A library must not print unasked, so :func:`track` just iterates until the command
line calls :func:`enable`. Messages go through ``logging.getLogger("keras_transfer")``.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TypeVar

T = TypeVar("T")
_enabled = False


def enable(on: bool = True) -> None:
    """Show progress bars on standard error from now on (or stop showing them)."""
    global _enabled
    _enabled = on


def enabled() -> bool:
    """Whether bars are shown."""
    return _enabled


def track(items: Iterable[T], description: str, total: int | None = None) -> Generator[T, None, None]:
    """Iterate over ``items``, showing a bar with a rate and the time left when enabled."""
    if not _enabled:
        yield from items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield from bar.track(items, total=total, description=description)
