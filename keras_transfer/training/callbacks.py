"""What Keras's own callbacks do not do together: keep the best weights, average them, and survive being killed.

``BackupAndRestore`` forgets what ``EarlyStopping`` and ``ModelCheckpoint`` have seen, so that a resumed training
ends elsewhere than an uninterrupted one. Here best weights, patience, history and optimizer state are one record.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_transfer import progress
from keras_transfer.paths import atomic_write

STATE, BEST = "state.json", "best.weights.h5"


class Record:
    """The state of one training on disk: every epoch's row, the last weights, the best weights.

    Args:
        folder: where it is kept; what is found there is taken up.
        network: pixels to logits, uncompiled; all of its weights are kept, whatever part is trained.
        monitor: the key of a row that is watched.
        higher: whether more of it is better.
        patience: epochs without a better value than the best trained epoch's before training stops.
        patient_until: the epoch before which patience never ends the training: where the last phase starts.

    ``notes`` (JSON-able) are kept with the rows.
    """

    def __init__(
        self,
        folder: Path,
        network: keras.Model,
        monitor: str,
        higher: bool,
        patience: int,
        patient_until: int = 0,
    ) -> None:
        self.folder, self.network = folder, network
        self.monitor, self.higher, self.patience = monitor, higher, patience
        self.patient_until = patient_until
        self.rows: list[dict[str, Any]] = []
        self.diverged: int | None = None
        self.notes: dict[str, Any] = {}
        if (folder / STATE).is_file():
            state = json.loads((folder / STATE).read_text(encoding="utf-8"))
            self.rows, self.diverged, self.notes = state["rows"], state["diverged"], state["notes"]

    @property
    def done(self) -> int:
        """Epochs completed."""
        return max(len(self.rows) - 1, 0)

    @property
    def best(self) -> int:
        """The epoch with the best monitored value; 0 is the start. Of equals the earliest."""
        sign = -1 if self.higher else 1
        return min(range(len(self.rows)), key=lambda index: sign * self.rows[index][self.monitor])

    @property
    def best_trained(self) -> int:
        """As :attr:`best`, the start left out; 0 when no epoch was completed."""
        sign = -1 if self.higher else 1
        return min(range(1, len(self.rows)), key=lambda i: sign * self.rows[i][self.monitor], default=0)

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to train: patience is used up, or the loss became NaN or infinite."""
        waited = self.done - max(self.best_trained, self.patient_until)
        return self.diverged is not None or waited >= self.patience

    def begin(self, row: dict[str, float]) -> None:
        """Epoch 0: the weights as they are now."""
        self.rows = [{"epoch": 0, **row}]
        _replace(self.network.save_weights, self.folder / BEST)

    def restore(self, optimizer: keras.optimizers.Optimizer | None = None) -> None:
        """Load the last epoch's weights and random states; with ``optimizer``, its state if it was this one's."""
        if not self.done:
            return
        self.network.load_weights(self.folder / f"epoch-{self.done}.weights.h5")
        with np.load(self.folder / f"epoch-{self.done}.npz") as kept:
            for name, seed in _seeds(self.network).items():
                seed.assign(kept[f"seed {name}"])
            if optimizer is not None:
                for index, variable in enumerate(optimizer.variables):
                    variable.assign(kept[f"optimizer {index}"])

    def restore_best(self, trained: bool = False) -> int:
        """Load the best weights, with ``trained`` those of the best trained epoch. Returns their epoch."""
        epoch = self.best_trained if trained else self.best
        self.network.load_weights(self.folder / (f"trained.{BEST}" if epoch else BEST))
        return epoch

    def keep_raw(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Write what a resumed training needs of the epoch that just ended."""
        epoch = self.done + 1
        _replace(self.network.save_weights, self.folder / f"epoch-{epoch}.weights.h5")
        arrays: dict[str, Any] = {f"optimizer {i}": np.asarray(v) for i, v in enumerate(optimizer.variables)}
        arrays |= {f"seed {name}": np.asarray(seed) for name, seed in _seeds(self.network).items()}
        _replace(lambda path: np.savez(path, **arrays), self.folder / f"epoch-{epoch}.npz")

    def close(self, row: dict[str, float]) -> None:
        """The epoch's row: the best weights first, the record that refers to them last."""
        # An epoch's loss says nothing of its last update: the weights are looked at too.
        finite = all(np.isfinite(np.asarray(weight)).all() for weight in self.network.trainable_variables)
        if not finite or not all(math.isfinite(value) for value in row.values()):
            self.diverged = self.done + 1
        else:
            self.rows.append({"epoch": self.done + 1, **row})
            if self.best_trained == self.done:
                _replace(self.network.save_weights, self.folder / f"trained.{BEST}")
        state = {"rows": self.rows, "diverged": self.diverged, "notes": self.notes}
        atomic_write(self.folder / STATE, json.dumps(state))
        for old in self.folder.glob("epoch-*"):
            if not old.name.startswith(f"epoch-{self.done}."):
                old.unlink()


class KeepRaw(keras.callbacks.Callback):
    """Writes the weights as the optimizer left them, and its own state."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write them."""
        self.record.keep_raw(self.model.optimizer)


class CloseEpoch(keras.callbacks.Callback):
    """Completes the record of an epoch, and stops the training when there is no hope left."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Append the row; what may be the best weights is the average where there is one, as it was validated."""
        variables = self.model.trainable_variables
        raw = [np.array(variable) for variable in variables] if self.model.optimizer.use_ema else []
        if raw:
            self.model.optimizer.finalize_variable_values(variables)
        self.record.close({key: float(value) for key, value in (logs or {}).items()})
        for variable, value in zip(variables, raw, strict=False):
            variable.assign(value)
        if self.record.finished:
            self.model.stop_training = True


class Bars(keras.callbacks.Callback):
    """Keras's training shown with the same bar as everything else: one per epoch."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs = epochs

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start a bar that :meth:`on_train_batch_end` moves."""
        total = self.params.get("steps")
        self._bar = progress.track(range(total or 0), f"Epoch {epoch + 1}/{self.epochs}", total)
        next(self._bar, None)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Move the bar."""
        next(self._bar, None)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remove the bar."""
        self._bar.close()


def _seeds(model: keras.Model) -> dict[str, keras.Variable]:
    """The random states of a model (which masks dropout draws next): weight files do not hold them."""
    generators = {layer.name: getattr(layer, "seed_generator", None) for layer in model.layers}
    return {name: generator.state for name, generator in generators.items() if generator is not None}


def _replace(write: Callable[[Path], Any], path: Path) -> None:
    temporary = path.with_name("writing-" + path.name)
    write(temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())  # on the disk before the state names it: power may fail, too
    temporary.replace(path)
