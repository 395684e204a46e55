"""What the checks of one task share, made when it is first asked for: data, a task, trained runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer.data import ImageTable
from keras_transfer.data.pipeline import input_batches
from keras_transfer.discovery import entries, import_object
from keras_transfer.errors import UsageError
from keras_transfer.export import ExportReport
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.run import Run
from keras_transfer.settings import TrainSettings
from keras_transfer.tasks.base import FIT, GRADIENT, TaskSpec
from keras_transfer.tasks.checked import CheckedTask
from keras_transfer.tasks.loading import load_task, task_of_run
from keras_transfer.tasks.specs import TASKS, task_spec
from keras_transfer.workflow.export import export_run
from keras_transfer.workflow.train import outputs_for, train

DEFAULTS = {
    "image_size": 64,
    "epochs": 1,
    "batch_size": 8,
    "engine": "keras",
    "val_fraction": 0.25,
    "test_fraction": 0.25,
    "unfreeze": "blocks:1",
    "guard": False,
}


class Trial:
    """A task, a small data set, and runs of it.

    Args:
        name: of the task.
        folder: everything is made in it.
        data, options, settings: see :class:`keras_transfer.testing.Kit`.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        data: Callable[[Path], Any] | None,
        options: Any,
        settings: dict[str, Any],
    ) -> None:
        self.name, self.folder = name, folder
        self.spec: TaskSpec = task_spec(name)
        self.entry = next(entry for entry in entries(TASKS) if entry.name == name)
        self._data, self._options, self._settings = data, options, settings
        self._failed: dict[str, Exception] = {}

    @property
    def options(self) -> Any:
        """The task's options."""
        return self.spec.options() if self._options is None else self._options

    def settings(self, **values: Any) -> TrainSettings:
        """The kit's settings as far as the task honours them, the author's over them, and ``values`` over both."""
        mine = {
            name: value
            for name, value in DEFAULTS.items()
            if name in (*self.spec.honours, "engine") or name not in (*FIT, *GRADIENT)
        }
        return TrainSettings.of(**{**mine, **self._settings, **values})

    def task(self) -> CheckedTask:
        """A new task."""
        return load_task(self.name, self.options)[1]

    @cached_property
    def source(self) -> Any:
        """The data, as ``train`` takes them."""
        make = self._data
        if make is None:
            if not self.spec.sample:
                raise UsageError(
                    f"The task {self.name!r} names no sample of its data: give some (data= of the kit, --data), or "
                    "name one in its TaskSpec (sample=)."
                )
            make = import_object(self.spec.sample)
        folder = self.folder / "data"
        folder.mkdir(exist_ok=True)
        return make(folder)

    @cached_property
    def strategy(self) -> str:
        """``finetune`` where the task takes it, else ``probe``; ``auto`` where it takes neither."""
        if "strategy" in self._settings:
            return self._settings["strategy"]
        for strategy in ("finetune", "probe"):
            try:
                self.task().settings_for(self.settings(strategy=strategy))
            except UsageError:
                continue
            return strategy
        return "auto"

    @cached_property
    def table(self) -> ImageTable:
        """The data, read and split."""
        return self.task().load_data(self.source, self.settings().data, 0)

    @cached_property
    def run(self) -> Run:
        """One training."""
        return self.train("run", self.strategy)

    @cached_property
    def again(self) -> Run:
        """The same training, once more."""
        return self.train("again", self.strategy)

    @cached_property
    def probe(self) -> Run:
        """A training that leaves the backbone as it is."""
        return self.run if self.strategy == "probe" else self.train("probe", "probe")

    def train(self, name: str, strategy: str) -> Run:
        """A run folder of this name. What failed once fails again at once: the checks share a training."""
        if name in self._failed:
            raise self._failed[name]
        settings = self.settings(strategy=strategy)
        try:
            return train(
                self.source, self.folder / name, task=self.name, task_options=self.options, settings=settings
            )
        except Exception as error:
            self._failed[name] = error
            raise

    def task_again(self) -> CheckedTask:
        """The task as ``evaluate`` and ``predict`` open it for the run."""
        return task_of_run(self.run)[1]

    @cached_property
    def trained(self) -> tuple[CheckedTask, Any]:
        """The task and the model of the run, opened again."""
        return self.task_again(), self.run.load_model()

    @cached_property
    def bundle(self) -> tuple[ExportReport, Path]:
        """The run, exported to TFLite."""
        folder = self.folder / "edge"
        report = export_run(self.run, folder, formats=("tflite",), overwrite=True, data=self.source)
        return report, folder

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """Of the run."""
        return self.run.record.contract.preprocessing

    @cached_property
    def measured(self) -> ImageTable:
        """The test images; all of them where there are none."""
        rows = self.table.indices("test")
        return self.table.take(rows if len(rows) else np.arange(len(self.table)))

    @cached_property
    def pixels(self) -> np.ndarray:
        """A few of them, uint8 ``(B, H, W, 3)``; of a task that generates, what its model is given for them."""
        return next(iter(input_batches(self.measured, self.preprocessing, 8, draw=self.draw)))

    @property
    def draw(self) -> Callable[[ImageTable], np.ndarray] | None:
        """Of a task that generates: its ``draw_inputs``, as the run's task has it."""
        return self.trained[0].draw_inputs if self.spec.generates else None

    @cached_property
    def outputs(self) -> np.ndarray:
        """What the model says to all of :attr:`measured`."""
        return outputs_for(self.trained[1], self.measured, self.preprocessing, "Evaluating", self.draw)
