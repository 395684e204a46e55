"""From one domain to another: the networks of a run taken up, and the lower part of the discriminator frozen."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import keras

from keras_transfer.backbones.blocks import blocks
from keras_transfer.errors import RunError, UsageError
from keras_transfer.freeze_plan import FreezePlan
from keras_transfer.run import open_run
from keras_transfer_gan.networks import Facts, SpectralNorm

NETWORKS, GENERATOR, DISCRIMINATOR = "networks", "generator.keras", "discriminator.keras"
DECIDING = (
    "architecture",
    "size",
    "channels",
    "noise",
    "width",
    "conditional",
    "normalization",
    "feature_network",
)


def save_networks(run: Path, generator: keras.Model, discriminator: keras.Model) -> None:
    """Write both networks into the run folder, to go on from."""
    (run / NETWORKS).mkdir(exist_ok=True)
    for name, model in ((GENERATOR, generator), (DISCRIMINATOR, discriminator)):
        model.save(run / NETWORKS / name)


def load_networks(
    path: Path, facts: Facts, generator: keras.Model | None = None, discriminator: keras.Model | None = None
) -> tuple[keras.Model, keras.Model]:
    """The networks of a run; with ``generator`` and ``discriminator``, their weights are put into these.

    Raises:
        UsageError: no run of this task, or networks of another form; what differs is named.
        RunError: they are damaged.
    """
    run = open_run(path)
    if run.record.request.task != "gan":
        raise UsageError(f"{path} is a run of the task {run.record.request.task}; one of gan is expected.")
    theirs = Facts.from_dict(dict(run.record.contract.notes["gan"]))
    differing = [name for name in DECIDING if getattr(theirs, name) != getattr(facts, name)]
    if facts.conditional and len(theirs.classes) != len(facts.classes):
        differing.append("classes")
    if differing:
        told = "; ".join(
            f"{name.replace('_', ' ')} {getattr(theirs, name)} there, {getattr(facts, name)} here"
            for name in differing
        )
        raise UsageError(
            f"The networks of {path} have another form ({told}). Give the same options as there."
        )
    found = [_load(run.path / NETWORKS / name) for name in (GENERATOR, DISCRIMINATOR)]
    for mine, loaded in zip((generator, discriminator), found, strict=True):
        if mine is not None:
            mine.set_weights(loaded.get_weights())
    return found[0], found[1]


def load_discriminator(run: Path) -> keras.Model:
    """Of a run folder, also of one that is being made. Raises ``RunError`` where it is damaged."""
    return _load(run / NETWORKS / DISCRIMINATOR)


def _load(path: Path) -> keras.Model:
    try:
        return keras.models.load_model(path, compile=False, custom_objects={"SpectralNorm": SpectralNorm})
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(
            f"{path} cannot be read ({error}). Restore the file, or train that run again."
        ) from error


@contextlib.contextmanager
def frozen_discriminator(discriminator: keras.Model, lower: int) -> Iterator[FreezePlan | None]:
    """Freeze so many of the lower blocks while the block runs, and prove afterwards that they are as before.

    FreezeD: Mo et al. 2020 (arXiv:2002.10964). The layers above learn as before, batch normalization included.

    Raises:
        UsageError: as many blocks as there are, or more.
    """
    plan = discriminator_plan(discriminator, lower)
    if plan is None:
        yield None
        return
    plan.apply(discriminator)
    snapshot = plan.snapshot_frozen(discriminator)
    yield plan
    plan.check(discriminator, snapshot)


def discriminator_plan(discriminator: keras.Model, lower: int) -> FreezePlan | None:
    """What of the discriminator learns where so many of its lower blocks are frozen; None: nothing is.

    Raises as :func:`frozen_discriminator`.
    """
    if not lower:
        return None
    names = [name for name, _ in blocks(discriminator) if name.startswith("block")]
    if lower >= len(names):
        raise UsageError(
            f"--freeze-lower {lower}: the discriminator has {len(names)} blocks, and one at least must learn."
        )
    return FreezePlan.for_model(discriminator, f"from:{names[lower]}", batchnorm="train")
