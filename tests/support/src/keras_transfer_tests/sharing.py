"""What is costly is made once a test run, by whichever worker asks first."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock


class Shared:
    """Folders that all workers of a test run read, each made once.

    Args:
        root: one folder for the whole test run.

    A folder is made beside its place and renamed into it when it is whole, so a worker that is killed in the middle
    leaves nothing that others read: its lock ends with it, and the next one that asks begins anew. What is made must
    not hold its own path, and nobody may change it: a test that does takes a copy.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def __call__(self, name: str, make: Callable[[Path], Any]) -> Path:
        """The folder ``name``, which ``make`` filled: it is called with an empty folder, unless another was faster.

        While it is made, the feature cache is one that all makers share.
        """
        place = self.root / name
        with FileLock(self.root / f"{name}.lock"):
            if not place.exists():
                unfinished = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=self.root))
                try:
                    with pytest.MonkeyPatch.context() as patch:
                        patch.setenv("KERAS_TRANSFER_CACHE", str(self.root / "cache"))
                        make(unfinished)
                    unfinished.replace(place)
                finally:
                    shutil.rmtree(unfinished, ignore_errors=True)
        return place
