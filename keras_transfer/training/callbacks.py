"""The two things Keras's own callbacks do not do together: keep the best weights and survive being killed.

``BackupAndRestore`` forgets what ``EarlyStopping`` and ``ModelCheckpoint`` have seen, so that a resumed training
ends elsewhere than an uninterrupted one. Here best weights, patience, history and optimizer state are one record.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from keras_transfer import progress
from keras_transfer.paths import atomic_write


class Checkpoint(keras.callbacks.Callback):
    """After each epoch, writes weights, optimizer state and history; stops when patience is used up.

    Args:
        folder: where the state is kept; a state found there is taken up by :meth:`restore`.
        monitor: the loss that is watched (lower is better), ``"val_loss"`` or ``"loss"``.
        patience: epochs without a lower value before training stops.
        start: the monitored value before the first epoch: weights no better than those are not kept.
    """

    def __init__(self, folder: Path, monitor: str, patience: int, start: dict[str, float]) -> None:
        super().__init__()
        self.folder = folder
        self.monitor = monitor
        self.patience = patience
        self.rows: list[dict[str, Any]] = [{"epoch": 0, **start}]

    def restore(self, model: keras.Model) -> int:
        """Load the last completed epoch, if there is one. Returns the number of epochs already done."""
        record = self.folder / "state.json"
        if not record.is_file():
            model.save_weights(self.folder / "best.weights.h5")
            return 0
        state = json.loads(record.read_text(encoding="utf-8"))
        self.rows = state["rows"]
        model.load_weights(self.folder / state["weights"])
        for name, seed in _seeds(model).items():
            seed.assign(state["seeds"][name])
        return len(self.rows) - 1

    def restore_best(self, model: keras.Model) -> int:
        """Load the weights with the lowest monitored value. Returns their epoch; 0 is the start."""
        model.load_weights(self.folder / "best.weights.h5")
        return self._best()

    @property
    def used_up(self) -> bool:
        """Whether patience has run out."""
        return len(self.rows) - 1 - self._best() >= self.patience

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Record the epoch; best weights first, the record that refers to them last."""
        values = {key: float(value) for key, value in (logs or {}).items()}
        self.rows.append({"epoch": epoch + 1, **values})
        if self._best() == epoch + 1:
            _replace(lambda path: self.model.save_weights(path), self.folder / "best.weights.h5")
        seeds = {key: keras.ops.convert_to_numpy(seed).tolist() for key, seed in _seeds(self.model).items()}
        name = f"epoch-{epoch + 1}.weights.h5"
        _replace(lambda path: self.model.save_weights(path), self.folder / name)
        atomic_write(
            self.folder / "state.json", json.dumps({"weights": name, "seeds": seeds, "rows": self.rows})
        )
        for old in self.folder.glob("epoch-*.weights.h5"):
            if old.name != name:
                old.unlink()
        if self.used_up:
            self.model.stop_training = True

    def _best(self) -> int:
        return min(range(len(self.rows)), key=lambda index: self.rows[index][self.monitor])


class Bars(keras.callbacks.Callback):
    """Keras's training shown with the same bar as everything else: one an epoch."""

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


def _replace(write: Callable[[Path], None], path: Path) -> None:
    temporary = path.with_name("writing-" + path.name)
    write(temporary)
    temporary.replace(path)
