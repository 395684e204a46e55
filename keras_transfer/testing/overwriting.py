"""The promise that nothing of the user's is replaced, tried with every verb and script that a task brings."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np
from PIL import Image

from keras_transfer.export import load_bundle
from keras_transfer.testing.command import call
from keras_transfer.testing.commands import verbs_of
from keras_transfer.testing.promises import Broken, require
from keras_transfer.testing.trial import Trial


def nothing_is_overwritten(trial: Trial) -> None:
    """No verb of the task's distribution, nor its bundle's script, replaces a file of the user's that is in the way."""
    photos = trial.folder / "photos"
    photos.mkdir(exist_ok=True)
    photo = photos / "0.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)).save(photo)
    shutil.copy(photo, photos / "0_overlay.png")
    others = trial.folder / "others"
    shutil.copytree(photos, others, dirs_exist_ok=True)
    before = _contents(photos, others)
    places = (photo, photos, others)
    for words, command in verbs_of(trial.entry.distribution):
        arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
        given = [trial.run.path, *[photo] * (len(arguments) - 1)][: len(arguments)]
        for option in command.params:
            flags = [flag for flag in option.opts if flag in ("--output", "--plot", "--to")]
            for flag, place in itertools.product(flags, places):
                try:
                    call(*words, *given, flag, place, code=(0, 1, 2))
                except AssertionError as error:
                    raise Broken(f"`{' '.join(words)} {flag} {place.name}` ended in {error}") from error
                _require_unchanged(before, f"`{' '.join(words)} {flag}`", photos, others)
    script = load_bundle(trial.bundle[1]).record.script
    if script is not None:
        for place in places:
            asked = [sys.executable, script, str(photo), "--output", str(place)]
            subprocess.run(asked, cwd=trial.bundle[1], capture_output=True, timeout=600)
            _require_unchanged(before, f"`python {script} --output`", photos, others)


def _contents(*folders: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for folder in folders for path in folder.iterdir()}


def _require_unchanged(before: Mapping[Path, bytes], asked: str, *folders: Path) -> None:
    now = _contents(*folders)
    lost = sorted(path.name for path, content in before.items() if now.get(path) != content)
    require(
        not lost,
        f"{asked} replaced {', '.join(lost)}, which it did not write: write through keras_transfer.outputs.Outputs.",
    )
