"""The state of a training on disk: a row for every look at it, and all variables at the last one."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer.errors import RunError
from keras_transfer.paths import atomic_write
from keras_transfer_gan.adversarial import Adversarial

ROWS = "gan.json"


class Keeper:
    """Rows and variables of a training, taken up from ``folder`` where there are some.

    Attributes:
        rows: a dictionary for each look, ``epoch`` among its values.
        ended: why the training stopped before its last epoch: ``diverged`` or ``collapsed``; None: it did not.

    Raises:
        RunError: the rows are damaged.
    """

    def __init__(self, folder: Path, model: Adversarial) -> None:
        self.folder, self.model = folder, model
        self.rows: list[dict[str, Any]] = []
        self.ended: str | None = None
        self.done = 0
        """The last epoch that was kept."""
        if (folder / ROWS).is_file():
            try:
                kept = json.loads((folder / ROWS).read_text(encoding="utf-8"))
                self.rows, self.ended = list(kept["rows"]), kept["ended"]
                self.done = int(self.rows[-1]["epoch"]) if self.rows else 0
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise self._damaged(folder / ROWS, error) from error

    def keep(self, row: dict[str, Any]) -> None:
        """An epoch ended well: its variables first, the record that refers to them last."""
        target = self._file(int(row["epoch"]))
        temporary = target.with_name(f"writing-{target.name}")
        values: dict[str, Any] = {name: np.asarray(one) for name, one in self.model.state.items()}
        np.savez(temporary, **values)
        temporary.replace(target)
        self.rows.append(row)
        self.done = int(row["epoch"])
        self._write()
        for old in self.folder.glob("epoch-*.npz"):
            if old != target:
                old.unlink()

    def end(self, reason: str) -> None:
        """The training goes no further: the last good epoch is the result."""
        self.ended = reason
        self._write()

    def restore(self) -> None:
        """Load all variables as they were after the last good epoch. Raises ``RunError`` for a damaged file."""
        path = self._file(self.done)
        try:
            with np.load(path) as kept:
                for name, variable in self.model.state.items():
                    variable.assign(kept[name])
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise self._damaged(path, error) from error

    def _damaged(self, path: Path, error: Exception) -> RunError:
        return RunError(
            f"{path} is damaged ({error}). Remove the folder {self.folder} and repeat the command: the training starts "
            "anew."
        )

    def _file(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch}.npz"

    def _write(self) -> None:
        content = json.dumps({"rows": self.rows, "ended": self.ended}, allow_nan=False)
        atomic_write(self.folder / ROWS, content)


def is_finite(row: dict[str, Any]) -> bool:
    """Whether every number of a row is one."""
    return all(math.isfinite(value) for value in row.values() if value is not None)
