"""Does another version of the source train the same weights and write the same files, bit for bit?

::

    python tests/same_bits.py OLD NEW

OLD and NEW are checkouts of this repository. Each trains and exports the same networks in a process of its own: the
tiny backbone on crops of the two photographs of scikit-learn, on one thread, with one seed. Compared are SHA-256 of

- ``weights``: the arrays of ``model.keras``, not the file, which holds a time;
- ``int8 file``: ``model_int8.tflite``;
- ``int8 answers``: what that file answers to every image.

A setting that a checkout does not know is left out there.

Exit code 0: all are the same. 1: one differs, which a change that is meant to change something explains. 2: a checkout
could not be used.

``make test`` does not run this script, and pytest does not collect it.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click

CROPS = 200
"""Of each photograph: more than 50 are then for validation, and those choose the strength of a probe."""
BASE = {"backbone": "tiny", "image_size": 64, "engine": "keras", "val_fraction": 0.2}
CASES = {
    "probe": {"strategy": "probe"},
    "probe, not refitted": {"strategy": "probe", "refit": False},
    "finetune": {"strategy": "finetune", "epochs": 2, "guard": False},
}
PARTS = ("weights", "int8 file", "int8 answers")


def hashes(folder: Path) -> dict[str, str]:
    """{part of a case: SHA-256}, with the package that this process imports; everything is made in ``folder``."""
    from keras_transfer_tests.images import write_crops
    from sklearn.datasets import load_sample_image

    from keras_transfer.settings import TrainSettings
    from keras_transfer.workflow.export import export_run
    from keras_transfer.workflow.train import train

    for seed, name in enumerate(("china", "flower")):
        write_crops(folder / "photos" / name, load_sample_image(f"{name}.jpg"), CROPS, seed)
    known, found = TrainSettings().flat(), {}
    for case, settings in CASES.items():
        values = {name: value for name, value in {**BASE, **settings}.items() if name in known}
        run = train(folder / "photos", folder / case / "run", **values)
        to = folder / case / "edge"
        export_run(run, to, formats=("tflite",), precisions=("int8",), allow_parity_failure=True)
        file = to / "model_int8.tflite"
        parts = (run.load_model().get_weights(), [file.read_bytes()], answers(file, folder / "photos"))
        found.update({f"{case}: {part}": sha256(some) for part, some in zip(PARTS, parts, strict=True)})
    return found


def answers(file: Path, photos: Path) -> list:
    """Of a ``.tflite`` to the upper left of every image, one by one, with LiteRT alone: one array an image."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter
    from PIL import Image

    interpreter = Interpreter(str(file), num_threads=1)
    inputs, outputs = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    height, width = inputs["shape"][1:3]
    interpreter.resize_tensor_input(inputs["index"], [1, *inputs["shape"][1:]])
    interpreter.allocate_tensors()
    found = []
    for path in sorted(photos.rglob("*.png")):
        pixels = np.array(Image.open(path))[None, :height, :width]
        interpreter.set_tensor(inputs["index"], pixels.astype(inputs["dtype"]))
        interpreter.invoke()
        found.append(interpreter.get_tensor(outputs["index"]))
    return found


def sha256(parts: list) -> str:
    """Of bytes, or of arrays with their shapes and types."""
    total = hashlib.sha256()
    for part in parts:
        if not isinstance(part, bytes):
            total.update(f"{part.shape} {part.dtype}".encode())
            part = part.tobytes()
        total.update(part)
    return total.hexdigest()


def of_checkout(root: Path) -> dict[str, str]:
    """What :func:`hashes` finds with the packages of a checkout, in a fresh process with one thread."""
    sources = [root, *sorted(root.glob("plugins/*/src")), root / "tests" / "support" / "src"]
    with tempfile.TemporaryDirectory() as folder:
        variables = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, sources)),
            "KERAS_TRANSFER_CACHE": str(Path(folder) / "cache"),
            "KERAS_TRANSFER_OFFLINE": "1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            **dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1"),
        }
        done = subprocess.run(
            # -P: this script's folder is not where its process imports from.
            [sys.executable, "-P", __file__, "--here", folder, str(root)],
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        click.echo(f"{root} cannot be used:\n{done.stderr[-2000:]}", err=True)
        sys.exit(2)
    return json.loads(done.stdout.splitlines()[-1])


def here(folder: Path, root: Path) -> None:
    """In the process of a checkout: print what was found."""
    import keras_transfer

    file = Path(keras_transfer.__file__).resolve()
    assert file.is_relative_to(root), f"{file} is not in {root}"
    click.echo(json.dumps(hashes(folder)))


def main(arguments: list[str]) -> int:
    """Compare two checkouts; the exit code."""
    if len(arguments) == 3 and arguments[0] == "--here":
        here(Path(arguments[1]), Path(arguments[2]))
        return 0
    if len(arguments) != 2 or not all((Path(one) / "keras_transfer").is_dir() for one in arguments):
        click.echo("Give two checkouts of this repository: python tests/same_bits.py OLD NEW", err=True)
        return 2
    old, new = (of_checkout(Path(one).resolve()) for one in arguments)
    width = max(map(len, new))
    click.echo(f"{'':{width}}  {'old':12}  {'new':12}")
    for name in new:
        same = "the same" if old[name] == new[name] else "DIFFERS"
        click.echo(f"{name:{width}}  {old[name][:12]}  {new[name][:12]}  {same}")
    return int(old != new)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
