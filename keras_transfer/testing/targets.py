"""The promises of a target, one function each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import keras
import numpy as np

from keras_transfer.discovery import Entry, entries
from keras_transfer.export.all_integer import convert_all_integer
from keras_transfer.export.golden import TOLERANCES
from keras_transfer.export.inspection import inspect_file
from keras_transfer.export.quantization import convert_dynamic, convert_integer
from keras_transfer.export.strict import for_strict_runtimes
from keras_transfer.export.targets.base import Made, Source, Target, furthest
from keras_transfer.export.targets.making import (
    allowed_of,
    load_target,
    own_files_alone,
    require_own_files,
    require_taken,
)
from keras_transfer.export.targets.specs import TARGETS, TargetSpec, target_spec
from keras_transfer.litert import LiteRTModel, convert
from keras_transfer.records import ExportOptions
from keras_transfer.records.layout import TFLITE
from keras_transfer.testing.promises import require, require_light
from keras_transfer.testing.samples import crops

SIZE, IMAGES = 96, 5


class TargetTrial:
    """A target, a plain network in the first precision that it takes, and what the checks share.

    Args:
        name: of the target. folder: a new one.

    Raises:
        UsageError, PluginError: there is no such target, or it is broken.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder / "edge"
        self.spec: TargetSpec = target_spec(name)
        self.entry: Entry = next(entry for entry in entries(TARGETS) if entry.name == name)
        self.pixels = np.stack(crops()[:: len(crops()) // IMAGES][:IMAGES])

    @cached_property
    def target(self) -> Target:
        """From its factory; ``ExportError`` with the command where a package is missing."""
        self.spec.require()
        return load_target(self.spec)

    @cached_property
    def source(self) -> Source:
        """The network, converted."""
        precision = self.spec.precisions[0]
        self.folder.mkdir()
        path = self.folder / TFLITE[precision]
        path.write_bytes(for_strict_runtimes(_converted(precision, self.spec.all_integer, self.pixels)))
        facts = inspect_file(path)
        require_taken(facts, self.spec)
        answers = LiteRTModel(path, reference=True).predict(self.pixels)
        options = ExportOptions(targets=(self.name,))
        return Source(self.folder, path.name, facts, self.pixels, answers, TOLERANCES[precision], options)

    @cached_property
    def made(self) -> Made:
        """What the target makes of it; it may write into its own folder alone."""
        source = self.source
        with own_files_alone(self.folder, self.name):
            made = self.target.make(source)
        require_own_files(self.name, source, made)
        return made

    def answers(self, folder: Path, pixels: np.ndarray) -> np.ndarray:
        """In the target's runtime, from a bundle's folder."""
        runner = self.target.open(folder / (self.made.model or self.source.file))
        given = runner.predict(pixels)
        runner.close()
        return given


def target_is_light(trial: TargetTrial) -> None:
    """Importing the spec imports neither TensorFlow nor Keras nor NumPy: ``inspect`` and ``targets`` list it."""
    require_light(trial.entry.value, "name a factory as text, which is imported on use")


def target_writes_into_its_folder(trial: TargetTrial) -> None:
    """What it makes of a plain network lies in ``targets/NAME``, all of it named, and nothing else is touched."""
    own = f"targets/{trial.name}"
    named = set(trial.made.files)
    for path in (trial.folder / own).rglob("*"):
        file = path.relative_to(trial.folder).as_posix()
        require(
            path.is_dir() or file in named, f"it wrote {file}, which is not among the files that it names."
        )


def target_tells_what_it_made(trial: TargetTrial) -> None:
    """What it measured is JSON, and versions of what made and ran it are told."""
    json.dumps(dict(trial.made.measured), allow_nan=False)
    needs = {name for name, _ in trial.spec.needs}
    missing = sorted(needs - set(trial.made.versions))
    require(not missing, f"the versions of {', '.join(missing)} are not told (Made.versions).")


def target_answers_like_litert(trial: TargetTrial) -> None:
    """In its runtime the network answers as in LiteRT, as near as it says."""
    allowed = allowed_of(trial.target, trial.source.tolerance)
    off = furthest(trial.answers(trial.folder, trial.pixels), trial.source.answers)
    require(off <= allowed, f"an answer differs by {off:.3g} from LiteRT's; at most {allowed:g} is allowed.")


def target_answers_any_number(trial: TargetTrial) -> None:
    """An image's answer does not depend on those it is asked with; none get none."""
    together = trial.answers(trial.folder, trial.pixels)
    alone = trial.answers(trial.folder, trial.pixels[2:3])
    require(alone.shape == (1, *together.shape[1:]), f"one image gets answers of shape {alone.shape}.")
    require(
        np.allclose(alone[0], together[2], atol=1e-5),
        "an image alone is answered otherwise than with others.",
    )
    none = trial.answers(trial.folder, trial.pixels[:0])
    require(none.shape == (0, *together.shape[1:]), f"no images get answers of shape {none.shape}.")


def target_opens_a_moved_bundle(trial: TargetTrial) -> None:
    """The files are copied elsewhere and opened there: nothing in them knows where they were made."""
    wanted = trial.answers(trial.folder, trial.pixels)
    moved = shutil.copytree(trial.folder, trial.folder.with_name("moved"), dirs_exist_ok=True)
    hidden = trial.folder.rename(trial.folder.with_name("hidden"))
    try:
        given = trial.answers(moved, trial.pixels)
    finally:
        hidden.rename(trial.folder)
    require(np.array_equal(given, wanted), "from another folder it answers otherwise.")


def _converted(precision: str, all_integer: bool, pixels: np.ndarray) -> bytes:
    """A small network in a precision; it tells the images apart."""
    keras.utils.set_random_seed(0)
    image = keras.Input((SIZE, SIZE, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(image)
    for width in (8, 16):
        x = keras.layers.Conv2D(width, 3, strides=2, padding="same", activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    weights = keras.initializers.RandomNormal(stddev=4.0, seed=1)
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax", kernel_initializer=weights)(x))

    def calibration() -> list[np.ndarray]:
        return [pixels.astype(np.float32)]

    if precision == "int8" and all_integer:
        return convert_all_integer(model, calibration).content
    if precision in ("int8", "int16x8"):
        return convert_integer(model, calibration, activations=16 if precision == "int16x8" else 8)
    return convert_dynamic(model) if precision == "dynamic" else convert(model, precision)


_MADE: tuple[Callable[[TargetTrial], None], ...] = (
    target_writes_into_its_folder,
    target_tells_what_it_made,
    target_answers_like_litert,
    target_answers_any_number,
    target_opens_a_moved_bundle,
)


def _where_made(promise: Callable[[TargetTrial], None]) -> Callable[[TargetTrial], None]:
    """Nothing to check of a target of rules alone."""

    def check(trial: TargetTrial) -> None:
        if trial.spec.factory:
            promise(trial)

    check.__doc__ = promise.__doc__
    return check


TARGET_CHECKS: dict[str, Callable[[TargetTrial], None]] = {
    "target_is_light": target_is_light,
    **{promise.__name__: _where_made(promise) for promise in _MADE},
}
