"""What contradicts itself in the settings of a training, refused before anything is computed."""

from __future__ import annotations

import logging

from keras_transfer.data import ImageTable
from keras_transfer.errors import DataError, UsageError
from keras_transfer.settings import FitSettings, GradientSettings, TrainSettings
from keras_transfer.training.finetune import refuse_contradictions
from keras_transfer.training.objective import TrainingObjective
from keras_transfer.training.strategy import Strategy

log = logging.getLogger("keras_transfer")


def require_sense(strategy: Strategy, settings: TrainSettings, data: ImageTable) -> None:
    """Refuse what contradicts itself, before anything is computed.

    Raises:
        UsageError, DataError: the message says what to do.
    """
    fit, held_out = settings.fit, len(data.indices("val"))
    if not len(data.indices("train")):
        raise DataError("No image is left in the training split. Lower --val-fraction and --test-fraction.")
    if settings.gradient.balance != "none" and data.label_mode != "classes":
        raise UsageError(
            f"--balance {settings.gradient.balance} is for single classes, not for {data.label_mode} labels."
        )
    if fit.deploy is not None and strategy.name != "probe":
        raise UsageError(
            f"--deploy {fit.deploy} fits the head on a frozen backbone: it goes with --strategy probe, not "
            f"{strategy.name}."
        )
    if fit.deploy is not None and fit.engine_precision != "float32":
        raise UsageError(
            f"--deploy {fit.deploy} computes the features as the device does, not with --engine-precision "
            f"{fit.engine_precision}. Leave one of them out."
        )
    if fit.features is not None:
        _require_features_of_use(strategy, fit)
    if fit.teacher is not None and strategy.name == "probe":
        raise UsageError("A teacher trains the network, not only its head: pass --strategy finetune or full.")
    if strategy.name in ("finetune", "full") and fit.guard and not held_out:
        raise DataError(
            "The validation split is empty, so nothing tells whether fine-tuning is better than the probe. Raise "
            "--val-fraction, or pass --no-guard to keep whatever the last epochs give."
        )


def _require_features_of_use(strategy: Strategy, fit: FitSettings) -> None:
    """``UsageError`` where given features have no say, or cannot be those of the network."""
    asked = {
        f"--strategy {strategy.name}": strategy.name == "scratch",
        f"--batchnorm {strategy.batchnorm}": strategy.batchnorm == "adapt",
        f"--deploy {fit.deploy}": fit.deploy is not None,
        f"--engine {fit.engine}": fit.engine != "auto",
    }
    against = [name for name, given in asked.items() if given]
    if against:
        raise UsageError(
            f"--features gives what the network as it is makes of the images; {against[0]} asks for something else. "
            "Leave one of them out."
        )


def require_objective(
    strategy: Strategy,
    settings: TrainSettings,
    data: ImageTable,
    objective: TrainingObjective | None = None,
) -> None:
    """The same for what gradient training minimises, watches and augments; by default for the labels' kind.

    Raises:
        UsageError: the message says what to do.
    """
    if strategy.name != "probe":
        fit = settings.fit
        refuse_contradictions(
            settings.gradient,
            data.label_mode,
            cache=fit.cache_boundary,
            teacher=fit.teacher is not None,
            objective=objective,
        )


def warn_of_what_is_unused(gradient: GradientSettings) -> None:
    asked = {
        "--augment": gradient.augment != "none",
        "--focal": gradient.focal is not None,
        "--label-smoothing": gradient.label_smoothing > 0,
        "--learning-rate": gradient.learning_rate is not None,
        "--find-lr": gradient.find_lr,
        "--layer-decay": gradient.layer_decay != 1,
        "--accumulate": gradient.accumulate != 1,
        "--ema": bool(gradient.ema),
        "--precision": gradient.precision != "float32",
        "--devices": gradient.devices != "1",
    }
    unused = [name for name, given in asked.items() if given]
    if unused:
        log.warning(
            "%s: for training by gradients. Only the head is fitted here, on features of the images as they are. "
            "--strategy finetune trains more.",
            ", ".join(unused),
        )
