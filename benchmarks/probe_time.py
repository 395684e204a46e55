"""The probe's own time, from cached features to a head: this checkout against another one, in one run.

    python benchmarks/probe_time.py --before PATH [--classes 10 100 1200] [--rounds 1] [--report docs/results.md]

PATH is a checkout of another commit. Both are asked in processes of their own, in turn, for what a training does with
features: choose the strength (``fit_probe``), fit the head again on training and validation images (``refit_probe``),
and judge it out of fold (``out_of_fold_logits``). The features are EfficientNet-Lite0's of crops of six photographs,
eight crops of each place, a class for each place; 10 classes have 1,650 crops. Exit code 1 when a strength differs, a
validation loss differs by more than 1e-3, or the ratio is below the goal.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from reporting import machine, write_section

GOALS = {10: 10.0, 100: 10.0, 1200: 20.0}
PIXELS, CROPS, OF_TEN = 96, 8, 165
NEAR = 1e-3
ASK = """
import json, sys, time
import keras, numpy as np
from keras_transfer.heads import add_head
from keras_transfer.training.probe import fit_probe, out_of_fold_logits, refit_probe

with np.load(sys.argv[1]) as file:
    x, y = file["x"], file["y"]
order = np.random.default_rng(0).permutation(len(y))
cut = int(0.8 * len(y))
train, val = order[:cut], order[cut:]
features = keras.Input((x.shape[1],))
model = add_head(keras.Model(features, keras.layers.Identity()(features)), int(y.max()) + 1)
begin = time.perf_counter(), time.process_time()
result = fit_probe(model, x, y, train=train, val=val)
chosen = time.perf_counter()
refit_probe(model, x, y, rows=order, c=result.c)
near = {"near": tuple(model.get_layer("logits").get_weights())} if "near" in sys.argv else {}
out_of_fold_logits(x, y, int(y.max()) + 1, rows=order, c=result.c, **near)
loss = min(trial["val_loss"] for trial in result.trials)
seconds = {"choosing": chosen - begin[0], "all": time.perf_counter() - begin[0], "cpu": time.process_time() - begin[1]}
print(json.dumps({"c": result.c, "loss": loss, **seconds}))
"""
REPORT = """    python benchmarks/probe_time.py --before PATH --report docs/results.md

Seconds from cached features to a head: the strength is chosen, the head is fitted again on training and validation
images, and judged out of fold. `before` is the commit before the probe had a solver of its own.

{table}

Machine: {machine}.
"""


def crops(classes: int, folder: Path) -> Path:
    """Features and classes of crops of the photographs, as a file."""
    from PIL import Image
    from skimage import data
    from sklearn.datasets import load_sample_images

    from keras_transfer.backbones import load_backbone
    from keras_transfer.data import load_data
    from keras_transfer.features import extract
    from keras_transfer.preprocessing import Preprocessing

    photos = [*load_sample_images().images, data.chelsea(), data.coffee(), data.astronaut(), data.rocket()]
    random = np.random.default_rng(0)
    count = OF_TEN if classes == 10 else CROPS
    pixels = []
    for one in range(classes):
        photo = photos[one % len(photos)]
        side = int(random.integers(48, 110))
        top, left = (int(random.integers(0, length - side - 12)) for length in photo.shape[:2])
        for _ in range(count):
            down, right = random.integers(0, 12, 2)
            part = photo[top + down : top + down + side, left + right : left + right + side]
            whole = np.asarray(Image.fromarray(part).resize((PIXELS, PIXELS)), np.float64)
            noisy = whole * random.uniform(0.7, 1.3) + random.normal(0, 8, whole.shape)
            pixels.append(np.clip(noisy, 0, 255).astype(np.uint8))
    labels = np.repeat(np.arange(classes), count)
    backbone = load_backbone("efficientnet_lite0", image_size=PIXELS)
    table = load_data((np.stack(pixels), labels))
    order = Preprocessing((PIXELS, PIXELS))
    values = extract(table, backbone, preprocessing=order, engine="litert", cache=False).values
    path = folder / f"{classes}.npz"
    np.savez(path, x=values, y=table.labels.astype(np.int64))
    return path


def ask(checkout: Path, features: Path, *more: str) -> dict[str, float]:
    environment = {**os.environ, "PYTHONPATH": str(checkout), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", ASK, str(features), *more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{checkout} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--classes", type=int, nargs="+", default=list(GOALS))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, help="of the linear algebra; default: its own choice")
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    if options.threads:
        os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(options.threads)))
    here, rows, good = Path(__file__).resolve().parents[1], [], True
    with tempfile.TemporaryDirectory() as folder:
        for classes in options.classes:
            features = crops(classes, Path(folder))
            pairs = [
                (ask(options.before.resolve(), features), ask(here, features, "near"))
                for _ in range(options.rounds)
            ]
            before, after = (min(side, key=lambda one: one["all"]) for side in zip(*pairs, strict=True))
            ratio = before["all"] / after["all"]
            same = before["c"] == after["c"] and abs(before["loss"] - after["loss"]) < NEAR
            good &= same and ratio >= GOALS.get(classes, 1.0)
            told = [f"{one['all']:.1f} ({one['choosing']:.1f})" for one in (before, after)]
            rows.append(
                f"| {classes} | {told[0]} | {told[1]} | {ratio:.1f} | {after['c']:.3g} | {after['loss']:.4f} |"
            )
            print(rows[-1], f"CPU {before['cpu']:.1f} and {after['cpu']:.1f}, before {before['c']:.3g}, "
                  f"{before['loss']:.4f}", flush=True)  # fmt: skip
    head = "| classes | before: all (choosing) | after | ratio | C | validation loss |\n|---|---|---|---|---|---|"
    if options.report:
        write_section(
            options.report,
            "The probe's own time",
            REPORT.format(table="\n".join([head, *rows]), machine=machine()),
        )
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
