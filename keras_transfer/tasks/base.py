"""The contract between the core and a task. Light: importing it imports neither Keras nor NumPy.

A task is two things. Its :class:`TaskSpec` is what the entry point (group ``keras_transfer.tasks``) names: facts
that can be listed without importing TensorFlow. Its :class:`Task` does the work. The core owns seeds, run folders,
checkpoints, the feature cache, parity, exports and reports; a task never writes those again.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from keras_transfer.settings import DataSettings, FitSettings, GradientSettings, TrainSettings

if TYPE_CHECKING:
    import keras
    import numpy as np

    from keras_transfer.data import ImageTable
    from keras_transfer.preprocessing import Preprocessing
    from keras_transfer.run import RunWriter

CONTRACT = 1
"""The contract version this core speaks. An optional field with a default keeps it; a new required method raises it."""
OLDEST_CONTRACT = 1
"""The oldest version still accepted."""

FIT = tuple(one.name for one in fields(FitSettings))
GRADIENT = tuple(one.name for one in fields(GradientSettings))
"""The settings of a training that a task may honour (:attr:`TaskSpec.honours`)."""
NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class NoOptions:
    """A task without options of its own."""


@dataclass(frozen=True)
class TaskSpec:
    """What the core knows of a task before it imports it.

    Attributes:
        name: what ``--task`` takes.
        summary: one line.
        factory: ``"package.module:Class"``, the :class:`Task`, imported on use.
        options: a frozen dataclass made of ``keras_transfer.options.option`` fields; its fields become options.
        needs_backbone: whether the core loads a backbone for it.
        metrics: what ``evaluate`` returns at least, and which way is better: ``{"accuracy": "higher"}``.
        main_metric: the one of them that is shown first.
        contract: the contract version it is written for.
        sample: ``"package.module:function"``: makes a small data set in the folder it is given and returns what
            ``train`` takes; the conformance kit trains on it.
        drop: how much of the main metric int8 and the other reduced precisions may lose: an amount where higher is
            better, a share of Keras's where lower is.
        tolerance: how far the float32 TFLite file may be from the Keras model, as a share of the outputs' scale.
        honours: names of the settings of training (:data:`FIT`, :data:`GRADIENT`) that :meth:`Task.fit` follows. The
            core refuses any other that is not at its default, so that none is ignored in silence. ``engine``, and the
            strategies ``auto`` and ``probe`` (the backbone stays as it is), need not be listed.
        generates: the model makes images from numbers instead of looking at images: the core gives it what
            :meth:`Task.draw_inputs` draws, one input for each real image it is measured against.
        standalone: ``"package.module"``, a script that runs without this package: it is copied into every bundle with a
            TFLite file, under the module's name, beside the core's ``classify.py``, whose functions it may import (a
            model that generates has no use for that, and its script is alone).
            Empty: ``classify.py`` alone, where an output has one number a name.
    """

    name: str
    summary: str
    factory: str
    metrics: Mapping[str, str]
    main_metric: str
    options: type = NoOptions
    needs_backbone: bool = True
    contract: int = CONTRACT
    sample: str = ""
    drop: float = 0.01
    tolerance: float = 1e-4
    honours: tuple[str, ...] = ()
    generates: bool = False
    standalone: str = ""


@dataclass(frozen=True)
class OutputContract:
    """What the exported model gives: ``kind`` (``"probabilities"``), its shape without the batch, and the names."""

    kind: str
    shape: tuple[int, ...]
    names: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"kind": self.kind, "shape": list(self.shape), "names": list(self.names)}


@dataclass(frozen=True, kw_only=True)
class BuildContext:
    """What the core lends a task that builds a model.

    Attributes:
        settings: what the user asked for, as :meth:`Task.settings_for` gave it.
        preprocessing: how an image becomes the model's pixels.
        task: name of the task.
        backbone: the loaded backbone, where the spec needs one.
    """

    settings: TrainSettings
    preprocessing: Preprocessing
    task: str = ""
    backbone: keras.Model | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingContext(BuildContext):
    """What the core lends a task for one training.

    Attributes:
        run: the run folder being made (``run.state`` for checkpoints, ``run.plots``, ``run.stage``).
        teacher: float ``(N, C)``, a teacher's probabilities for every image of the data, where one was given.
        say: tells the user one line.
    """

    run: RunWriter
    teacher: np.ndarray | None = None
    say: Callable[[str], None] = lambda line: None


@dataclass(frozen=True, eq=False)
class Fitted:
    """What :meth:`Task.fit` gives.

    Attributes:
        model: what is saved and exported: from pixels ``(B, H, W, 3)`` to the task's output.
        notes: what the training decided and why, JSON-able. ``run.json`` and the bundle keep it, and the task is made
            with it when the model is opened again. ``strategy``, and ``plan`` (``FreezePlan.to_dict``), are shown.
        history: one dictionary of numbers per epoch; ``history.csv`` is written from it.
    """

    model: keras.Model
    notes: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class TrainingPlan:
    """What :meth:`Task.fit` would do with a model, told before anything is trained (``train --dry-run``).

    Attributes:
        strategy: what it is called: ``probe``, ``finetune``, ``adversarial`` ...
        why: why this one, in a few words.
        phases: what trains, JSON-able: a dictionary for each phase (of several networks for each of them, with its
            name under ``network``), with the ``epoch`` it starts at, counted from 0, and what ``FreezePlan.to_dict``
            gives.
        learning_rate: the peak; None where nothing is trained by gradient.
        extraction: multiply-adds of the features that are computed once; None here and below: not known.
        fitting: multiply-adds of fitting a head on them.
        training: multiply-adds of the gradient training.
        files: what the run folder gets besides the core's files.
    """

    strategy: str
    why: str
    phases: Sequence[Mapping[str, Any]] = ()
    learning_rate: float | None = None
    extraction: float | None = None
    fitting: float | None = None
    training: float | None = None
    files: tuple[str, ...] = ()


class Task(abc.ABC):
    """One kind of model. Subclasses implement every abstract method; the others where they need them.

    A task remembers nothing: what a method answers depends on its arguments and on what the task was made with, never
    on which method was called before.

    Args:
        options: an instance of the spec's options dataclass, already checked.
        notes: what ``fit`` noted, of a finished training; empty before it. A subclass that reads more than single
            values from it does so in its constructor and raises ``ValueError``, ``KeyError`` or ``TypeError`` for notes
            that are damaged.
        run_path: the run folder of that training; None before it, and for a model without a run.
    """

    def __init__(
        self, options: Any, notes: Mapping[str, Any] = NOTHING, run_path: Path | None = None
    ) -> None:
        self.options, self.notes, self.run_path = options, notes, run_path

    def settings_for(self, settings: TrainSettings) -> TrainSettings:
        """The settings as this task follows them, given its options; called before a training and before its plan.

        The default changes nothing. What :attr:`TaskSpec.honours` does not list is refused by the core.

        Raises:
            UsageError: settings that contradict the task's options.
        """
        return settings

    def draw_inputs(self, data: ImageTable) -> np.ndarray:
        """float32 ``(N, ...)``: what a model that generates is given, one row for each of the N images of ``data``.

        Only asked of a task whose spec says ``generates``. Equal tables get equal inputs. ``evaluate`` then compares
        the N outputs with the N images as two samples.
        """
        raise NotImplementedError(
            f"{type(self).__name__} generates and draws no inputs: implement draw_inputs."
        )

    def takes_backbone(self) -> bool:
        """Whether a task whose spec needs a backbone gets one with these options; some bring a network of their own.

        The default is yes.
        """
        return True

    def training_plan(
        self, model: keras.Model, data: ImageTable, context: BuildContext
    ) -> TrainingPlan | None:
        """What :meth:`fit` would do with the model that :meth:`build` made, for ``train --dry-run``. Trains nothing.

        ``context.backbone`` has random weights then. Tasks that call ``fit_transfer`` return
        ``keras_transfer.tasks.planning.plan_transfer(model, data, context)``.

        The default is None: the core tells the data, the network, and what one pass over the images costs.

        Raises:
            UsageError, DataError: what ``fit`` would refuse before it computes anything.
        """
        return None

    def decide(self, outputs: np.ndarray) -> np.ndarray | Sequence[Any] | None:
        """What outputs ``(N, ...)`` come to, ``(N, ...)``: the formats of an export must agree on it.

        The default is None: the outputs are numbers, and nothing is decided.
        """
        return None

    @abc.abstractmethod
    def load_data(
        self, source: Any, settings: DataSettings, seed: int, *, names: Sequence[str] | None = None
    ) -> ImageTable:
        """Read the data, checked and split.

        ``names`` are the output names of a trained model whose data this is; where they are classes, the labels must be
        among them.
        """

    @abc.abstractmethod
    def build(self, data: ImageTable, context: BuildContext) -> keras.Model:
        """The untrained model, from pixels ``(B, H, W, 3)`` in [0, 255] to what is exported.

        Where the spec says ``generates``: from inputs as :meth:`draw_inputs` draws them to images.
        """

    @abc.abstractmethod
    def fit(self, model: keras.Model, data: ImageTable, context: TrainingContext) -> Fitted:
        """Train the model that :meth:`build` made, in place or as the lower part of another.

        Pictures of how it was trained (learning curves) go into ``context.run.plots``.
        """

    @abc.abstractmethod
    def evaluate(self, outputs: np.ndarray, data: ImageTable) -> dict[str, Any]:
        """Metrics of the model's ``outputs`` for all images of ``data``, JSON-able; the spec's metrics at least."""

    def score(self, outputs: np.ndarray, data: ImageTable, metric: str) -> float | None:
        """One of the metrics of :meth:`evaluate`, the same number; the guard asks some 400 times a verdict.

        The default evaluates everything. A task whose metrics are costly computes the one.
        """
        value = self.evaluate(outputs, data)[metric]
        return None if value is None else float(value)

    @abc.abstractmethod
    def predict(self, outputs: np.ndarray, names: Sequence[str], top: int) -> list[dict[str, Any]]:
        """What to tell the user for each output, JSON-able."""

    @abc.abstractmethod
    def output_contract(self, shape: tuple[int, ...], data: ImageTable) -> OutputContract:
        """Kind, shape and names of what a model for these data gives.

        ``shape``: of the model's output, without the batch.
        """

    def plots(  # noqa: B027  (some tasks have nothing to show)
        self, outputs: np.ndarray, data: ImageTable, metrics: Mapping[str, Any], folder: Path
    ) -> None:
        """Draw into ``folder`` what is better looked at than read of a finished training's answers.

        Args:
            outputs: of the model, for all images of ``data``.
            metrics: what :meth:`evaluate` gave for them.
        """
