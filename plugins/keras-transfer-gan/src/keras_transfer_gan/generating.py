"""Images from a finished run: files for people and for classifiers, and the ways between them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer.errors import DataError, UsageError
from keras_transfer.inference import KerasRunner
from keras_transfer.outputs import Outputs
from keras_transfer.paths import new_folder_beside
from keras_transfer.run import Run, open_run
from keras_transfer_gan import pictures
from keras_transfer_gan.drawing import between, class_number, draw, labels_in_turn, with_labels
from keras_transfer_gan.networks import Facts
from keras_transfer_gan.standalone.generate import SHEET, folder_names

BATCH = 64
ON_SHEET, COLUMNS = 256, 16
MOST = 1_000_000


class Maker:
    """The generator of a run. Raises ``UsageError`` unless it is a run of this task."""

    def __init__(self, path: str | Path | Run) -> None:
        run = path if isinstance(path, Run) else open_run(path)
        task = run.record.request.task
        if task != "gan":
            raise UsageError(
                f"{run.path} is a run of the task {task}; one made by `train --task gan` is expected."
            )
        self.run = run
        self.facts = Facts.from_dict(dict(run.record.contract.notes["gan"]))
        told = self.facts.conditional or len(self.facts.classes) == 1
        self.names = self.facts.classes if told else ("made",)
        """Of the kinds of images that are made; the folder of each is in ``folders``."""
        self.folders = folder_names(self.names)
        self._runtime = KerasRunner(run.load_model())

    def make(self, inputs: np.ndarray) -> np.ndarray:
        """Inputs ``(N, Z)`` to images uint8 ``(N, H, W, C)``.

        Always in batches of one size, so that an image does not depend on how many are made: sums are added up in
        another
        order in batches of another size.
        """
        images = []
        for start in range(0, len(inputs), BATCH):
            part = inputs[start : start + BATCH]
            padded = np.concatenate([part, np.zeros((BATCH - len(part), inputs.shape[1]), np.float32)])
            images.append(self._runtime.predict(padded)[: len(part)].astype(np.uint8))
        return np.concatenate(images)

    def labels(self, count: int, class_name: str | None) -> np.ndarray:
        """Classes of so many images: the one that is named, or all in turn; zeros where there are none."""
        if class_name is not None:
            return np.full(count, class_number(self.facts, class_name))
        return labels_in_turn(self.facts, count)


def generate_images(
    run: str | Path | Run, output: Path, *, count: int = 64, seed: int = 0, class_name: str | None = None
) -> dict[str, Any]:
    """Write images into class folders, and a contact sheet.

    Args:
        run: a run folder of this task.
        output: a folder that is new or empty; it appears whole or not at all.
        count: how many, 1 to a million.
        seed: image ``i`` of a seed is the same however many are made.
        class_name: of which class; by default all in turn.

    Returns:
        JSON-able: ``images``, ``folders``, ``contact_sheet``, ``seed``.

    Raises:
        UsageError: no run of this task, an unknown class, an impossible count, or a folder in use.
    """
    if not 1 <= count <= MOST:
        raise UsageError(f"--count {count} was given; 1 to {MOST:,} are expected.")
    _check_seed(seed)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output} is not empty. Choose a new folder; nothing was touched.")
    maker = Maker(run)
    labels = maker.labels(count, class_name)
    digits = len(str(count - 1))
    sheet: list[np.ndarray] = []
    folders: set[str] = set()
    try:
        with new_folder_beside(output) as partial:
            inputs = draw(maker.facts, count, seed, labels)
            for start in range(0, count, BATCH):
                images = maker.make(inputs[start : start + BATCH])
                sheet += list(images[: max(0, ON_SHEET - start)])
                for number, image in enumerate(images, start):
                    label = int(labels[number])
                    folders.add(maker.folders[label])
                    file = f"{pictures.SOURCE}_{seed}_{number:0{digits}d}.png"
                    notes = _notes(maker, seed, number, maker.names[label])
                    pictures.write_png(partial / maker.folders[label] / file, image, notes)
            pictures.write_png(partial / SHEET, pictures.grid(np.stack(sheet), min(COLUMNS, len(sheet))))
            if output.exists():
                output.rmdir()
            partial.rename(output)
        Outputs().remember(output / SHEET)  # no image of the data that the folders are
    except OSError as error:
        raise DataError(f"{output} cannot be written ({error.strerror or error}).") from error
    return {
        "images": count,
        "seed": seed,
        "folders": [str(output / name) for name in sorted(folders)],
        "contact_sheet": str(output / SHEET),
    }


def _notes(maker: Maker, seed: int, number: int, name: str) -> dict[str, str]:
    return {
        "Source": pictures.SOURCE,
        "Software": "keras-transfer-gan",
        "Comment": f"Synthetic: made by a generative adversarial network, run {maker.run.path.resolve().name}, "
        f"seed {seed}, "
        f"image {number}, class {name}.".encode("utf-8", "replace").decode("utf-8"),
    }


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise UsageError(f"--seed {seed} was given; a number of at least 0 is expected.")


def interpolate_images(
    run: str | Path | Run,
    output: Path,
    *,
    steps: int = 9,
    rows: int = 6,
    seed: int = 0,
    class_name: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Draw strips from one image to another through the noise; as an animation all strips move at once.

    Raises:
        UsageError: no run of this task, an unknown class, an impossible number, another kind of file, or a file
            that this tool did not write (without ``overwrite``).
        DataError: the file cannot be written.
    """
    _check_seed(seed)
    if steps < 2 or rows < 1:
        raise UsageError(f"--steps {steps} and --rows {rows} were given; at least 2 and 1 are expected.")
    kind = output.suffix.lower()
    if kind not in (".png", ".gif", ".webp"):
        raise UsageError(f"--output {output}: a file that ends in .png, .gif or .webp is expected.")
    places = Outputs(overwrite=overwrite)
    places.check(output)
    maker = Maker(run)
    noise = draw(replace(maker.facts, conditional=False), 2 * rows, seed)
    ways = np.stack([between(noise[2 * row], noise[2 * row + 1], steps) for row in range(rows)])
    labels = np.repeat(maker.labels(rows, class_name), steps)
    images = maker.make(with_labels(maker.facts, ways.reshape(rows * steps, -1), labels))
    try:
        with places.writing(output) as place:
            if kind == ".png":
                pictures.write_png(place, pictures.grid(images, steps), {"Source": pictures.SOURCE})
            else:
                moving = images.reshape(rows, steps, *images.shape[1:])
                frames = [pictures.grid(moving[:, step], rows) for step in range(steps)]
                pictures.write_animation(place, [*frames, *frames[-2:0:-1]])
    except OSError as error:
        raise DataError(f"{output} cannot be written ({error.strerror or error}).") from error
    return {"file": str(output), "rows": rows, "steps": steps, "seed": seed}
