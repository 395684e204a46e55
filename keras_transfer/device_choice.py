"""Which devices a training is spread over: what was asked for, read without TensorFlow."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass

from keras_transfer.errors import UsageError


@dataclass(frozen=True)
class DeviceChoice:
    """What ``--devices`` says.

    Attributes:
        count: how many devices; None: all accelerators there are.
        parts: the processor is divided into ``count`` logical devices, to try out what several devices do.
    """

    count: int | None = 1
    parts: bool = False


def read_devices(text: str) -> DeviceChoice:
    """What ``--devices`` says.

    Raises:
        UsageError: neither a number of at least 1, nor ``auto``, nor ``cpu:N`` with N of at least 2.
    """
    if text == "auto":
        return DeviceChoice(None)
    found = re.fullmatch(r"(cpu:)?([0-9]{1,4})", str(text))
    parts = bool(found and found[1])
    if found is None or int(found[2]) < (2 if parts else 1):
        raise UsageError(
            f"--devices {text} was given; a number of at least 1 is expected, auto (all accelerators there are), or "
            "cpu:N with N of at least 2 (the processor in N parts, to try it out)."
        )
    return DeviceChoice(int(found[2]), parts)


def refuse_hosts() -> None:
    """A training is one host's: ``UsageError`` where ``TF_CONFIG`` names a cluster of several, or cannot be read.

    TensorFlow reads that variable for its strategies of several hosts. Two hosts that train each by itself are two
    trainings, whatever it says.
    """
    text = os.environ.get("TF_CONFIG", "")
    if not text.strip():
        return
    try:
        cluster = json.loads(text).get("cluster", {})
        hosts = [
            address
            for role, addresses in cluster.items()
            if role != "evaluator"
            for address in list(addresses)
        ]
    except (ValueError, AttributeError, TypeError):
        raise UsageError(
            'TF_CONFIG is set and is not what TensorFlow expects, such as {"cluster": {"worker": ["HOST:PORT"]}, '
            '"task": {"type": "worker", "index": 0}}. Correct it, or unset it.'
        ) from None
    if len(hosts) > 1:
        raise UsageError(
            f"TF_CONFIG names a cluster of {len(hosts)} hosts ({', '.join(map(str, hosts[:3]))}). A training runs on "
            "one host: unset TF_CONFIG, and use its accelerators with --devices. The features of many images can be "
            "computed on several hosts with `keras-transfer ray features`."
        )
