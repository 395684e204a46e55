"""What the verbs can be told beside what those of one machine can. Light."""

from __future__ import annotations

from dataclasses import dataclass

from keras_transfer.options import Spelling, option
from keras_transfer.settings import POOLINGS


@dataclass(frozen=True)
class ClusterSettings:
    """Where the work is done, and in which pieces."""

    workers: int | None = option(
        None, "Workers (default: as many as there are CPUs for).", minimum=1, maximum=10_000
    )
    cpus_per_worker: int = option(1, "CPUs, and threads, of each worker.", minimum=1, maximum=1024)
    address: str = option(
        "local",
        "The cluster: local (started here, and stopped at the end), auto (running on this machine), HOST:PORT, or "
        "ray://HOST:PORT.",
        spelling=Spelling(metavar="ADDRESS"),
    )
    shard_images: int = option(
        256, "Images a shard: what is written at once, and lost at most.", minimum=1, maximum=65_536
    )


@dataclass(frozen=True)
class VectorSettings:
    """What of a network is saved as features."""

    layer: str | None = option(
        None, "A layer's name, or P2 to P5: the level of the pyramid (default: the last map)."
    )
    pooling: str = option("avg", "How a feature map becomes one vector.", choices=POOLINGS)
