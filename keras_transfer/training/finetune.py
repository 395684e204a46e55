"""Gradient training with Keras ``fit``: a low rate that rises and falls, and never loses the best weights.

Linear probe first, gradient training from there, is LP-FT (Kumar et al. 2022, arXiv:2202.10054): starting from a
random head distorts pretrained features before the head has become useful.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import keras
import numpy as np

from keras_transfer import options as option_tools
from keras_transfer.backbones.blocks import leaf_layers
from keras_transfer.data import ImageTable
from keras_transfer.errors import DataError, UsageError, unknown_name
from keras_transfer.features.boundary import frozen_dropout_off
from keras_transfer.hashing import sha256_of, sha256_of_parts
from keras_transfer.heads import LOGITS, head_layers, logits_model
from keras_transfer.paths import atomic_write
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.setting_values import GradientValues
from keras_transfer.settings import GradientSettings
from keras_transfer.training.callbacks import Bars, CloseEpoch, KeepRaw, Record
from keras_transfer.training.devices import Devices, prepare_devices
from keras_transfer.training.feeds import Boundary, Feed, make_feed, refuse_kept_mixing
from keras_transfer.training.folding import fold_frozen_norms
from keras_transfer.training.lr_finder import LearningRateFinding, find_learning_rate
from keras_transfer.training.objective import Objective, TrainingObjective
from keras_transfer.training.optimizers import make_optimizer
from keras_transfer.training.phases import Phase
from keras_transfer.training.precision import computing_in
from keras_transfer.training.replicas import Replicas
from keras_transfer.training.schedules import Shifted, make_schedule
from keras_transfer.training.statistics import remembering_an_epoch
from keras_transfer.training.strategy import RATES, SGD_FACTOR

log = logging.getLogger("keras_transfer")
FINDER_STEPS = 60
BEGUN = "begun.json"


@dataclass(frozen=True)
class FineTuneResult:
    """What a gradient training did.

    Attributes:
        history: one dictionary per epoch: ``epoch`` (0 is the start), ``loss``, ``accuracy``, ``val_loss``,
            ``val_accuracy`` (or the metric of the labels' kind).
        best_epoch: whose weights the model now has; 0 is the start.
        resumed_at: epochs that an interrupted attempt had already done.
        learning_rate: the peak that was used.
        boundaries: what was computed once instead of every epoch, a sentence for each phase.
        finding: of the learning-rate finder, when it ran.
        diverged: the epoch in which the loss became NaN or infinite, or None.
        devices: what computed.
    """

    history: list[dict[str, Any]]
    best_epoch: int
    resumed_at: int
    learning_rate: float
    boundaries: list[str] = field(default_factory=list)
    finding: LearningRateFinding | None = None
    diverged: int | None = None
    devices: Devices = field(default_factory=lambda: Devices(()))


def fine_tune(
    model: keras.Model,
    table: ImageTable,
    preprocessing: Preprocessing,
    *,
    phases: Sequence[Phase] = (Phase(0, None),),
    objective: TrainingObjective | None = None,
    teacher: np.ndarray | None = None,
    boundary: Boundary = Boundary("off"),  # noqa: B008 (frozen)
    keep_start: bool = True,
    seed: int = 0,
    state: Path | None = None,
    settings: GradientSettings | None = None,
    **values: Unpack[GradientValues],
) -> FineTuneResult:
    """Train whatever is trainable in a model with a head, and leave it with its best validation weights.

    Args:
        model: made by ``heads.add_head``; pixels ``(B, H, W, 3)`` in [0, 255] to probabilities or values.
        table: its ``train`` split is learned from, its ``val`` split watched (the training loss when it is empty).
        preprocessing: brings the images to ``(H, W)``.
        phases: progressive unfreezing (Howard & Ruder 2018, arXiv:1801.06146); the first starts at 0.
        objective: loss and metrics; by default cross-entropy or squared error after the table's kind.
        teacher: float ``(N, C)``, a teacher's probabilities for every image of the table, for a distillation.
        boundary: whether what lies below the trained layers is computed once and kept.
        keep_start: whether the weights before the first epoch may be the result.
        seed: fixes order, dropout masks and augmentation.
        state: a folder that survives an interruption; the same call takes up what is found there, and ends with
            the same weights as an uninterrupted one. Another call is refused.
        settings: or single settings by name: ``epochs=5, learning_rate=1e-3, augment="light"``.

    Raises:
        UsageError: nothing is trainable, an unknown setting, settings that contradict each other, or ``state``
            holds a training that began otherwise.
        DataError: no training images; the loss became NaN or infinite before one epoch was done.
    """
    import tensorflow as tf

    if settings is not None and values:
        raise UsageError("Give either settings= or single settings by name, not both.")
    settings = settings or option_tools.from_dict(GradientSettings, values)
    devices = prepare_devices(settings.devices)
    train, val = table.indices("train"), table.indices("val")
    if not len(train):
        raise DataError(f"{table.source}: no image is in the training split.")
    objective = objective or default_objective(model, table, settings)
    planned = phases[0].plan
    head = head_layers(model) if planned is None else planned.head
    monitor = _monitor(settings.monitor, objective, len(val) > 0)
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    with (
        tempfile.TemporaryDirectory() as temporary,
        computing_in(model, settings.precision, head),
        objective.in_training_units(model),
    ):
        call = {
            **option_tools.to_dict(settings),
            "phases": [(p.start, None if p.plan is None else p.plan.to_dict()) for p in phases],
            "objective": repr(objective),
            "boundary": repr(boundary),
            "keep_start": keep_start,
            "seed": seed,
        }
        folder = _state_folder(state or Path(temporary), settings, model, table, preprocessing, call, teacher)
        network = logits_model(model)
        # Of its own, so that compiling the other does not put its optimizer into the files.
        kept = logits_model(model)
        starts = [phase.start for phase in phases]
        record = Record(
            folder, kept, monitor, settings.monitor in objective.higher, settings.patience, starts[-1]
        )
        resumed_at = record.done
        if resumed_at:
            log.info("Taking up the training after epoch %d.", resumed_at)
        feeds = partial(
            make_feed, model, network, table, preprocessing, objective, settings, teacher=teacher, seed=seed
        )
        training = _Training(
            model, record, objective, settings, partial(feeds, boundary), len(val) > 0, head, devices
        )
        for phase, end in zip(phases, [*starts[1:], settings.epochs], strict=True):
            training.run(phase, min(end, settings.epochs))
        if record.diverged is not None:
            kept_epoch = record.restore_best(trained=not keep_start)
            training.explain(partial(feeds, Boundary("off")), phase, kept_epoch)
        best = record.restore_best(trained=not keep_start)
    return FineTuneResult(
        record.rows,
        best,
        resumed_at,
        training.peak,
        training.boundaries,
        training.finding,
        record.diverged,
        devices,
    )


class _Training:
    """One training in progress: what the phases share."""

    def __init__(
        self,
        model: keras.Model,
        record: Record,
        objective: TrainingObjective,
        settings: GradientSettings,
        feed: Callable[[], Feed],
        held_out: bool,
        head: Sequence[str],
        devices: Devices,
    ) -> None:
        self.model, self.record, self.objective, self.settings = model, record, objective, settings
        self.feed, self.held_out, self.head, self.devices = feed, held_out, head, devices
        factor = SGD_FACTOR if settings.optimizer == "sgd" else 1.0
        self.peak = settings.learning_rate or RATES["finetune"] * factor
        self.finding: LearningRateFinding | None = None
        self.boundaries: list[str] = []

    def run(self, phase: Phase, end: int) -> None:
        """Train one phase up to epoch ``end``, from where an earlier attempt stopped."""
        record = self.record
        if phase.plan is not None:
            phase.plan.apply(self.model)
        if not self.model.trainable_variables:
            raise UsageError("Nothing is trainable: unfreeze something first (set_trainable, unfreeze_from).")
        _warn_of_single_images(self.model, self.settings)
        if record.rows and (record.finished or record.done >= end):
            return
        record.restore()
        snapshot = None if phase.plan is None else phase.plan.snapshot_frozen(self.model)
        with self._inference_below(phase):
            feed = self.feed()
            plain = feed.network
            feed = replace(feed, network=fold_frozen_norms(plain))
            self.boundaries += [feed.about] if feed.about else []
            if self.settings.find_lr:
                self._find_once(feed, phase)
            self._compile(feed, phase)
            if not record.rows:
                record.begin(self._measure(feed))
            record.restore(feed.network.optimizer if record.done > phase.start else None)
            with remembering_an_epoch(self.model, feed.steps):
                if self.devices.strategy is not None:
                    Replicas(feed.network, plain, self.devices.strategy, self.objective.loss()).install()
                self._fit(feed, end)
        if snapshot is not None and phase.plan is not None:
            phase.plan.check(self.model, snapshot)

    def _inference_below(self, phase: Phase) -> contextlib.AbstractContextManager[Any]:
        """No dropout in the backbone, unless its batch normalization learns."""
        trained_too = not _trains_statistics(self.model, phase)
        return frozen_dropout_off(self.model, trained_too=trained_too, head=self.head)

    def explain(self, make_feed: Callable[[], Feed], phase: Phase, kept: int) -> None:
        """Say what to do about a loss that became NaN or infinite: the finder's rate, from the weights kept."""
        try:
            with self._inference_below(phase):
                suggestion = self._find(make_feed(), phase).suggestion
            advice = f"The learning-rate finder suggests --learning-rate {suggestion:.1g}."
        except DataError as error:
            advice = f"Lower --learning-rate (the finder found none: {error})"
        log.warning(
            "The loss became NaN or infinite in epoch %d at a peak learning rate of %.2g. %s The weights %s are kept.",
            self.record.diverged,
            self.peak,
            advice,
            f"of epoch {kept}" if kept else "from before the training",
        )

    def _find_once(self, feed: Feed, phase: Phase) -> None:
        """The finder's rate, measured before the first step and then kept: a resumed training measures no other."""
        notes = self.record.notes
        if "finding" not in notes:
            try:
                notes["finding"] = asdict(self._find(feed, phase))
                log.info("The learning-rate finder suggests %.2g.", notes["finding"]["suggestion"])
            except DataError as error:
                log.warning("%s The learning rate stays %.2g.", error, self.peak)
                notes["finding"] = None
        if notes["finding"] is not None:
            self.finding = LearningRateFinding(**notes["finding"])
            self.peak = self.finding.suggestion

    def _find(self, feed: Feed, phase: Phase) -> LearningRateFinding:
        return guarded(
            lambda: find_learning_rate(
                feed.network,
                feed.training(0),
                loss=self.objective.loss(),
                optimizer=self.settings.optimizer,
                steps=FINDER_STEPS,
                **self._optimizer_options(phase),
            )
        )

    def _compile(self, feed: Feed, phase: Phase) -> None:
        settings, total = self.settings, feed.steps * self.settings.epochs
        if settings.accumulate > total:
            raise UsageError(
                f"--accumulate {settings.accumulate} was given, and the whole training has {total} batches: nothing "
                f"would be learned. Give at most {feed.steps}, an epoch's batches, or a smaller --batch-size."
            )
        schedule = make_schedule(
            settings.schedule, self.peak, total_steps=total, warmup_steps=round(settings.warmup * total)
        )
        optimizer = make_optimizer(
            settings.optimizer,
            Shifted(schedule, feed.steps * phase.start),
            accumulate=settings.accumulate,
            ema=settings.ema or None,
            **self._optimizer_options(phase),
        )
        # Built now, so that its state is part of every checkpoint, the first one read included.
        optimizer.build(feed.network.trainable_variables)
        feed.network.compile(optimizer, self.objective.loss(), metrics=self.objective.metrics())

    def _optimizer_options(self, phase: Phase) -> dict[str, Any]:
        """What the finder's optimizer has of the training's."""
        return {
            "weight_decay": self.settings.weight_decay,
            "momentum": self.settings.momentum,
            "clip_norm": self.settings.clip_norm,
            "multipliers": (phase.plan.variable_multipliers(self.model) or None) if phase.plan else None,
        }

    def _measure(self, feed: Feed) -> dict[str, float]:
        prefix = "val_" if self.held_out else ""
        found = guarded(lambda: feed.network.evaluate(feed.held_out(), return_dict=True, verbose=0))
        return {f"{prefix}{name}": float(value) for name, value in found.items()}

    def _fit(self, feed: Feed, end: int) -> None:
        record = self.record
        # Validates the averaged weights. Not swap_on_epoch: it adds and subtracts, which rounds, and a training that
        # is taken up again must find exactly the weights that went on.
        averaging = [keras.callbacks.SwapEMAWeights()] if self.settings.ema else []
        callbacks = [
            Bars(self.settings.epochs),
            keras.callbacks.TerminateOnNaN(),
            *averaging,
            KeepRaw(record),
            CloseEpoch(record),
        ]
        guarded(
            lambda: feed.network.fit(
                feed.training(record.done),
                steps_per_epoch=feed.steps,
                initial_epoch=record.done,
                epochs=end,
                validation_data=feed.held_out() if self.held_out else None,
                callbacks=callbacks,
                shuffle=False,  # the feed has its own order
                verbose=0,
            )
        )


def default_objective(model: keras.Model, table: ImageTable, settings: GradientSettings) -> Objective:
    """What the settings and the table's kind of labels ask to be minimised."""
    centre: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    # A custom head may end in any layer: its values stay in the labels' units.
    dense = next((layer for layer in model.layers if layer.name == LOGITS), None)
    if table.label_mode == "regression" and isinstance(dense, keras.layers.Dense) and dense.use_bias:
        learned = table.labels[table.indices("train")].astype(np.float64)
        centre = tuple(map(float, learned.mean(axis=0)))
        scale = tuple(float(value) or 1.0 for value in learned.std(axis=0))
    return Objective(
        table.label_mode, settings.label_smoothing, settings.focal or None, centre=centre, scale=scale
    )


def refuse_contradictions(
    settings: GradientSettings,
    kind: str,
    *,
    cache: str,
    teacher: bool,
    objective: TrainingObjective | None = None,
) -> None:
    """Raise ``UsageError`` for what :func:`fine_tune` would refuse, before anything is computed.

    Args:
        kind: of the labels, as in ``ImageTable``.
        cache: of the boundary.
        teacher: whether there is one.
        objective: where it is not the one that these settings ask for.
    """
    if objective is None:
        objective = Objective(
            kind, settings.label_smoothing, settings.focal or None, temperature=1.0 if teacher else None
        )
    _monitor(settings.monitor, objective, held_out=True)
    if isinstance(objective, Objective):
        objective.refuse_mixing(settings)
    refuse_kept_mixing(cache, settings)


def _trains_statistics(model: keras.Model, phase: Phase) -> bool:
    """Whether batch normalization learns in this phase.

    If not, the backbone runs in inference mode, as ``base(x, training=False)`` in Keras's guide to transfer learning:
    a few epochs on few images gain nothing from stochastic depth made for hundreds (on ELPV it cost 4 points of
    training accuracy in the first epoch), and it stays off.
    """
    if phase.plan is not None:
        return phase.plan.batchnorm == "train"
    norms = (layer for layer in leaf_layers(model) if isinstance(layer, keras.layers.BatchNormalization))
    return any(layer.trainable for layer in norms)


def _monitor(name: str, objective: TrainingObjective, held_out: bool) -> str:
    known = objective.watched
    if name not in known:
        raise unknown_name(f"metric to monitor for {objective.label_mode} labels", name, known)
    return f"val_{name}" if held_out else name


def _warn_of_single_images(model: keras.Model, settings: GradientSettings) -> None:
    norms = (layer for layer in leaf_layers(model) if isinstance(layer, keras.layers.BatchNormalization))
    if settings.batch_size == 1 and any(layer.trainable for layer in norms):
        log.warning(
            "Batch normalization is trained with one image per batch: its statistics become noise. Use "
            "--batchnorm frozen, or a larger --batch-size."
        )


def guarded(work: Any) -> Any:
    """Run ``work``; an image that vanished in training arrives wrapped in TensorFlow's error, and leaves as ours."""
    import tensorflow as tf

    try:
        return work()
    except tf.errors.OpError as error:
        found = re.search(r"DataError: (.*)", error.message)
        if not found:
            raise
        raise DataError(found[1]) from error


def _state_folder(
    root: Path,
    settings: GradientSettings,
    model: keras.Model,
    table: ImageTable,
    preprocessing: Preprocessing,
    call: Mapping[str, Any],
    teacher: np.ndarray | None,
) -> Path:
    """The folder for exactly this training: other data, another split or other settings never take up its state.

    Raises:
        UsageError: it holds another training; what differs is named.
    """
    weights = (keras.ops.convert_to_numpy(variable).tobytes() for variable in model.weights)
    asked = {
        **json.loads(json.dumps(call)),
        "preprocessing": preprocessing.to_dict(),
        "images": sha256_of((table.fingerprint() + "".join(table.splits.tolist())).encode())[:16],
        "trainable layers": sha256_of(
            repr([(layer.name, layer.trainable) for layer in leaf_layers(model)]).encode()
        )[:16],
        "starting weights": sha256_of_parts(weights)[:16],
        "teacher": None if teacher is None else sha256_of(np.asarray(teacher).tobytes())[:16],
    }
    begun = root / BEGUN
    if begun.is_file():
        before = json.loads(begun.read_text(encoding="utf-8"))
        differing = [
            f"{name} ({before.get(name)} then, {asked[name]} now)" if hasattr(settings, name) else name
            for name in sorted(asked)
            if before.get(name) != asked[name]
        ]
        if differing:
            raise UsageError(
                f"{root} holds an interrupted training that began with other {', '.join(differing)}. Repeat it as it "
                "was to finish it, or remove the folder (train: --overwrite) to begin anew."
            )
    else:
        root.mkdir(parents=True, exist_ok=True)
        atomic_write(begun, json.dumps(asked))
    return root
