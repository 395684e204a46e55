"""The devices of this process that a training is spread over, and TensorFlow's strategy for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from keras_transfer.device_choice import DeviceChoice, read_devices, refuse_hosts
from keras_transfer.errors import UsageError


@dataclass(frozen=True)
class Devices:
    """What a training is spread over.

    Attributes:
        names: of this host's devices as TensorFlow calls them, such as ``GPU:0``; one: an ordinary training.
        strategy: ``tf.distribute``'s; None: an ordinary training.
    """

    names: tuple[str, ...]
    strategy: Any = None

    @property
    def count(self) -> int:
        """How many devices train together."""
        return 1 if self.strategy is None else self.strategy.num_replicas_in_sync

    def to_dict(self) -> dict[str, Any]:
        """For ``run.json``."""
        return {"count": self.count, "names": list(self.names)}


_made: dict[tuple[str, ...], Any] = {}
"""Strategies by their devices: one is enough for a process."""


def prepare_devices(text: str) -> Devices:
    """The devices that ``--devices`` asks for.

    ``cpu:N`` divides the processor, which TensorFlow allows only before it computes anything: call this first.

    Raises:
        UsageError: more devices than there are, a processor that can no longer be divided, or ``TF_CONFIG`` names
            several hosts.
    """
    refuse_hosts()
    choice = read_devices(text)
    names = _parts_of_the_processor(choice) if choice.parts else _accelerators(choice)
    if len(names) < 2:
        return Devices(names)
    if names not in _made:
        _made[names] = tf.distribute.MirroredStrategy(list(names))
    return Devices(names, _made[names])


def _accelerators(choice: DeviceChoice) -> tuple[str, ...]:
    there = tuple(f"GPU:{index}" for index in range(len(tf.config.get_visible_devices("GPU"))))
    if choice.count is None:
        return there or ("CPU:0",)
    if choice.count == 1:
        return there[:1] or ("CPU:0",)
    if choice.count > len(there):
        raise UsageError(
            f"--devices {choice.count} was given, and TensorFlow finds {_told(there)} here. Give at most that many, "
            f"or --devices cpu:{choice.count} to try it out on the processor."
        )
    return there[: choice.count]


def _told(there: tuple[str, ...]) -> str:
    if not there:
        return "no accelerator"
    return f"{len(there)} ({', '.join(there)})"


def _parts_of_the_processor(choice: DeviceChoice) -> tuple[str, ...]:
    count = choice.count or 1
    processor = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(
            processor, [tf.config.LogicalDeviceConfiguration()] * count
        )
    except RuntimeError:  # it computes already
        there = len(tf.config.list_logical_devices("CPU"))
        if there < count:
            raise UsageError(
                f"--devices cpu:{count} was given, and TensorFlow already computes on {there} here. Ask for it before "
                "anything else is computed in this process."
            ) from None
    return tuple(f"CPU:{index}" for index in range(count))
