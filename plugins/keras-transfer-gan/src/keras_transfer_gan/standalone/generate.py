#!/usr/bin/env python3
"""Make images with the generator beside this file. TensorFlow is not needed.

    python generate.py --count 16 --output images
    python generate.py --class NAME --seed 7 --count 16 --output images
    python generate.py --self-test                   replay the golden inputs; exit code 1 on any deviation

It needs: pip install ai-edge-litert numpy pillow   (tflite-runtime will do, too)

An image is made from normal noise, as many numbers as bundle.json says under "notes", followed by the class as one-hot
where the generator was told classes. The same seed gives the same images. Every PNG says in its metadata that it is
synthetic. What is needed are this file, bundle.json, one .tflite, and for --self-test golden/.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

HERE = Path(__file__).resolve().parent
SCHEMA = 1
SHEET = "contact_sheet.png"
"""Lies beside the class folders that `keras-transfer gan generate` makes."""


class Problem(Exception):
    """What the user is told; nothing else is printed."""


class Model:
    """A ``.tflite``: inputs float32 (Z,) to an image uint8 (H, W, C)."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        try:
            self._runtime = _interpreter()(model_path=str(path), num_threads=threads)
            self._runtime.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise Problem(f"{path.name} is damaged, or needs a newer runtime: {error}") from None
        self._input = self._runtime.get_input_details()[0]["index"]
        self._output = self._runtime.get_output_details()[0]["index"]

    def make(self, inputs: np.ndarray) -> np.ndarray:
        self._runtime.set_tensor(self._input, inputs[np.newaxis].astype(np.float32))
        self._runtime.invoke()
        return self._runtime.get_tensor(self._output)[0]


def _interpreter() -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        try:
            from tflite_runtime.interpreter import Interpreter
        except ImportError:
            raise Problem("No runtime is installed: pip install ai-edge-litert") from None
    return Interpreter


def read_bundle() -> dict[str, Any]:
    try:
        bundle = json.loads((HERE / "bundle.json").read_text(encoding="utf-8"))
        if bundle["schema"] > SCHEMA:
            raise Problem(f"bundle.json has schema {bundle['schema']}; this generate.py knows {SCHEMA}.")
        bundle["notes"]["gan"]["noise"]  # looked at now, so that what is damaged is said
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Problem(f"bundle.json cannot be read: {error!r}") from None
    return bundle


def model_files(bundle: dict[str, Any]) -> list[str]:
    """The ``.tflite`` files of the bundle that are here."""
    files = [row["file"] for row in bundle["artefacts"] if row["file"].endswith(".tflite")]
    return [name for name in files if (HERE / name).is_file()]


def folder_names(classes: Sequence[str]) -> list[str]:
    """A folder for each class, inside the one it is made in whatever the class is called; no two are the same.

    Names that can be folders stay as they are; of others what cannot be in one becomes ``_``.
    """
    safe = [re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", name)[:80].strip(" .") or "class" for name in classes]
    names, taken = list(safe), {SHEET}
    for place in sorted(range(len(safe)), key=lambda place: safe[place] != classes[place]):
        while names[place].casefold() in taken:
            names[place] += f"_{place}"
        taken.add(names[place].casefold())
    return names


def generate(bundle: dict[str, Any], options: argparse.Namespace) -> int:
    here, facts = model_files(bundle), bundle["notes"]["gan"]
    name = options.model or (here[0] if here else None)
    if name not in here:
        raise Problem(
            f"There is no {name or '.tflite'} beside this file. There are: {', '.join(here) or 'none'}."
        )
    classes = facts["classes"] if facts["conditional"] else []
    if options.class_name is not None and options.class_name not in classes:
        raise Problem(f"There is no class {options.class_name!r}. There are: {', '.join(classes) or 'none'}.")
    model = Model(HERE / name, options.threads)
    try:
        write_images(model, facts["noise"], classes, options)
    except OSError as error:
        raise Problem(f"{options.output} cannot be written ({error.strerror or error}).") from None
    print(f"{options.count} images in {options.output}")
    return 0


def write_images(model: Model, size: int, classes: list[str], options: argparse.Namespace) -> None:
    output, folders = Path(options.output), folder_names(classes)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise Problem(f"{output} is not empty. Choose a new folder; nothing was touched.")
    noise = np.random.default_rng(options.seed).standard_normal((options.count, size), dtype=np.float32)
    for number, inputs in enumerate(noise):
        place = classes.index(options.class_name) if options.class_name else number % max(1, len(classes))
        folder = output / (folders[place] if classes else "made")
        one_hot = np.eye(len(classes), dtype=np.float32)[place] if classes else np.zeros(0, np.float32)
        image = model.make(np.concatenate([inputs, one_hot]))
        info = PngInfo()
        info.add_text("Source", "synthetic")
        told = f", class {classes[place]}" if classes else ""
        comment = f"Made by a generative adversarial network, seed {options.seed}, image {number}{told}."
        info.add_text("Comment", comment.encode("utf-8", "replace").decode("utf-8"))
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"synthetic_{options.seed}_{number:06d}.png", pnginfo=info)


def self_test(bundle: dict[str, Any], threads: int) -> int:
    """Hashes, then the golden inputs through every model here."""
    wrong, models = [], model_files(bundle)
    for name, recorded in bundle["files"].items():
        if not (HERE / name).is_file():
            wrong += [f"{name} is missing."] if name.startswith("golden/") else []
        elif hashlib.sha256((HERE / name).read_bytes()).hexdigest() != recorded["sha256"]:
            wrong.append(f"{name} is not the file that was exported.")
    if not models:
        wrong.append("There is no .tflite to test.")
    if not wrong:
        golden = json.loads((HERE / "golden" / "golden.json").read_text(encoding="utf-8"))
        inputs = np.array(golden["inputs"], np.float32)
        print(f"{len(inputs)} inputs")
        for name in models:
            model = Model(HERE / name, threads)
            made = np.array([model.make(one) for one in inputs], np.float32)
            numbers = made.reshape(len(made), -1)[:, :: golden["step"]]
            difference = float(np.abs(numbers - np.array(golden["expected"][name], np.float32)).max())
            allowed = golden["tolerances"][name]
            if not difference <= allowed:
                wrong.append(f"{name}: a pixel differs by {difference:g}; at most {allowed:.3g} is allowed.")
            print(f"{name}: largest difference {difference:g} (allowed {allowed:.3g})")
    for line in wrong:
        print(line, file=sys.stderr)
    print("FAILED" if wrong else "passed")
    return 1 if wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=16, metavar="N", help="how many images (default: 16)")
    parser.add_argument(
        "--seed", type=int, default=0, help="the same seed gives the same images (default: 0)"
    )
    parser.add_argument(
        "--class", dest="class_name", metavar="NAME", help="of which class (default: all in turn)"
    )
    parser.add_argument("--output", metavar="DIR", help="a new or empty folder")
    parser.add_argument("--self-test", action="store_true", help="replay the golden inputs")
    parser.add_argument("--model", metavar="FILE", help="which .tflite (default: the bundle's first)")
    parser.add_argument("--threads", type=int, default=1, help="default: 1")
    options = parser.parse_args()
    if options.self_test == bool(options.output):
        parser.error("give --output, or --self-test")
    if options.count < 1 or options.threads < 1 or options.seed < 0:
        parser.error("--count and --threads must be at least 1, --seed at least 0")
    try:
        bundle = read_bundle()
        return self_test(bundle, options.threads) if options.self_test else generate(bundle, options)
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
