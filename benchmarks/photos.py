"""A camera's photos: files to features, and files to predictions, against another build. Alternately, in one run.

    python benchmarks/photos.py --before CHECKOUT [--images 48] [--rounds 2] [--json]

EfficientNet-Lite0 at 224 px with its ImageNet weights, on crops of scikit-learn's two photographs enlarged to
4000 x 3000 pixels (a little noise, JPEG, quality 90). ``CHECKOUT`` is the source of another version of
keras_transfer; without one, this version decodes in full and keeps nothing.

- ``features``: ``load_data`` and ``extract(engine="litert")``, nothing in the cache but the converted backbone;
- ``predict``: the classes of every photo of a folder, by Keras;
- ``top1``: the share of photos whose most probable ImageNet class is the same, of all and of those where it leads the
  next one by 0.05 or more (``clear``): between two classes that are as probable as each other any change decides;
- ``pixels``: the difference of what the network sees, mean and largest, of 255.

Exit code 1 when a ratio is below its bar, features 3.0 and predict 2.5, or fewer than 99.5 % of the clear
ones have the same class.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

SIZE, SIDES, WARM = (224, 224), (4000, 3000), 4
BARS = {"features": 3.0, "predict": 2.5, "clear": 0.995}
LEAD = 0.05
ROOT = Path(__file__).resolve().parents[1]


def photos(folder: Path, count: int, seed: int) -> Path:
    """``count`` photos, a folder for each of the two they are crops of."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_image

    rng = np.random.default_rng(seed)
    for name in ("china", "flower"):
        picture = Image.fromarray(load_sample_image(f"{name}.jpg"))
        (folder / name).mkdir(parents=True)
        for number in range(count // 2):
            width = picture.width * rng.uniform(0.5, 0.9)
            height = width * SIDES[1] / SIDES[0]
            left, top = rng.uniform(0, picture.width - width), rng.uniform(0, picture.height - height)
            box = (left, top, left + width, top + height)
            large = np.asarray(picture.resize(SIDES, Image.Resampling.LANCZOS, box=box)).astype(np.float32)
            noise = rng.normal(0, 2, large.shape[:2])[..., np.newaxis]
            pixels = np.rint(large + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:03d}.jpg", quality=90)
    return folder


def measure(folder: Path, full: bool) -> None:
    """In a process of its own, by the keras_transfer it finds: seconds, classes and pixels, to standard output."""
    import inspect

    import numpy as np

    import keras_transfer as ktr
    from keras_transfer.workflow.as_is import as_is

    scaled = "decode" in inspect.signature(ktr.Preprocessing).parameters
    pixels = ktr.Preprocessing(size=SIZE, **({"decode": "full"} if scaled and full else {}))
    kept = {"preprocessing": pixels} if scaled and not full else {}
    backbone = ktr.load_backbone("efficientnet_lite0", image_size=SIZE[0])
    classifier = as_is("efficientnet_lite0", image_size=SIZE[0])

    def features(source: Path) -> None:
        table = ktr.load_data(source, **kept)
        ktr.extract(table, backbone, preprocessing=pixels, engine="litert")

    def classes(source: Path) -> list[tuple[str, float]]:
        answers = ktr.predict(classifier, [source], top=2, preprocessing=pixels)
        best = [answer["classes"] for answer in answers]
        return [(first["label"], first["probability"] - second["probability"]) for first, second in best]

    features(folder / "warm")
    classes(folder / "warm")
    started = time.perf_counter()
    features(folder / "photos")
    between = time.perf_counter()
    top1 = classes(folder / "photos")
    seconds = {"features": between - started, "predict": time.perf_counter() - between}
    seen = np.stack([pixels.load(path) for path in sorted((folder / "photos").rglob("*.jpg"))])
    np.save(folder / "seen.npy", seen)
    print(json.dumps({**seconds, "classes": top1}))


def child(folder: Path, checkout: Path, full: bool) -> tuple[dict, object]:
    """What :func:`measure` finds with the source of a checkout, and the pixels."""
    import numpy as np

    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, str(Path(__file__).resolve()), "--measure", str(folder)]
        environment = {**os.environ, "PYTHONPATH": str(checkout), "KERAS_TRANSFER_CACHE": cache}
        done = subprocess.run(
            [*command, *(["--full"] if full else [])],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
        )
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1]), np.load(folder / "seen.npy").astype(int)


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", type=Path, metavar="CHECKOUT")
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--full", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        measure(arguments.measure, arguments.full)
        return 0
    found: dict[str, list[dict]] = {"before": [], "after": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        photos(folder / "warm", WARM, 1)
        photos(folder / "photos", arguments.images, 0)
        for _ in range(arguments.rounds):
            before, theirs = child(folder, (arguments.before or ROOT).resolve(), arguments.before is None)
            after, ours = child(folder, ROOT, False)
            found["before"].append(before)
            found["after"].append(after)
    result: dict[str, float] = {"images": arguments.images}
    for name in ("features", "predict"):
        old, new = (median(one[name] for one in found[build]) for build in ("before", "after"))
        result[f"{name}_ms_before"] = round(1000 * old / arguments.images, 1)
        result[f"{name}_ms"] = round(1000 * new / arguments.images, 1)
        result[name] = round(old / new, 2)
    pairs = list(zip(before["classes"], after["classes"], strict=True))
    clear = [pair for pair in pairs if pair[0][1] >= LEAD]
    for name, chosen in (("top1", pairs), ("clear", clear)):
        result[name] = sum(one[0] == other[0] for one, other in chosen) / max(1, len(chosen))
    result["clear_images"] = len(clear)
    difference = abs(ours - theirs)
    result["pixels_mean"], result["pixels_max"] = round(float(difference.mean()), 3), int(difference.max())
    if arguments.json:
        print(json.dumps(result))
    else:
        for name in ("features", "predict"):
            told = f"{result[f'{name}_ms_before']} -> {result[f'{name}_ms']} ms an image"
            print(f"{name}: {told}, {result[name]} times as fast")
        print(f"the same class: {100 * result['top1']:.1f} %; where it leads: {100 * result['clear']:.1f} %")
        print(f"pixels: mean difference {result['pixels_mean']}, largest {result['pixels_max']} of 255")
    return int(any(result[name] < bar for name, bar in BARS.items()))


if __name__ == "__main__":
    sys.exit(main())
