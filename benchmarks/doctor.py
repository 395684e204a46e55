"""A rescue: a network that plain int8 ruins, and what the quantization doctor makes of it.

    python benchmarks/doctor.py [--fashion FOLDER] [--weights FILE]

MobileNet with ImageNet weights as a feature extractor at 128 px, a logistic regression on 2,500 images of Fashion-MNIST
(28 x 28 grey, 10 classes, enlarged), measured on 2,000 of its test images. FOLDER holds the IDX files (Debian: package
dataset-fashion-mnist); FILE the weights of keras.applications' MobileNet where they are not in Keras's cache. How many
layers stay in float is chosen on 500 other training images. Exit code 1 unless plain int8 loses more than 2 points and
the doctor's model at most 1.
"""

from __future__ import annotations

import argparse
import gzip
import logging
import sys
from pathlib import Path

import numpy as np

from keras_transfer.backbones import load_backbone
from keras_transfer.export.doctor import QuantizationDoctor
from keras_transfer.heads import add_head, split_head
from keras_transfer.inference import KerasRunner
from keras_transfer.litert import LiteRTModel, convert
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.training.probe import fit_probe

SIZE, LEARN, VALIDATE, TEST, CALIBRATE = 128, 2500, 500, 2000, 100
KEEP = (0, 1, 2, 3, 4, 6, 8)


def read(folder: Path, name: str, count: int, preprocessing: Preprocessing) -> tuple[np.ndarray, np.ndarray]:
    """The first images of a part, uint8 ``(count, H, W, 3)``, and their labels."""
    images = np.frombuffer(gzip.decompress((folder / f"{name}-images-idx3-ubyte.gz").read_bytes()), np.uint8)
    labels = np.frombuffer(gzip.decompress((folder / f"{name}-labels-idx1-ubyte.gz").read_bytes()), np.uint8)
    grey = images[16:].reshape(-1, 28, 28)[:count]
    pixels = np.stack([preprocessing.apply(np.repeat(one[:, :, np.newaxis], 3, axis=2)) for one in grey])
    return pixels, labels[8 : 8 + count].astype(np.int64)


def main() -> int:
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fashion", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--weights", default="imagenet")
    options = parser.parse_args()
    preprocessing = Preprocessing((SIZE, SIZE))
    images, labels = read(options.fashion, "train", LEARN + VALIDATE, preprocessing)
    unseen, truth = read(options.fashion, "t10k", TEST, preprocessing)
    model = add_head(
        load_backbone("mobilenet", weights=options.weights, image_size=SIZE), 10, dropout=0.0, seed=0
    )
    rows = np.arange(len(images))
    learn, val = rows[:LEARN], rows[LEARN:]
    fit_probe(model, LiteRTModel(convert(split_head(model)[0])).predict(images), labels, train=learn, val=val)

    def accuracy(answers: np.ndarray, wanted: np.ndarray) -> float:
        return 100 * float(np.mean(answers.argmax(axis=1) == wanted))

    keras_accuracy = accuracy(KerasRunner(model).predict(unseen), truth)
    print(f"Keras: {keras_accuracy:.1f} % on {TEST} test images")
    found = {}
    for whole in (True, False):
        doctor = QuantizationDoctor(model, lambda: [images[:CALIBRATE]], whole=whole)
        print("\nplain int8" if whole else "\nint8 with first layers and head in float")
        print("  worst: " + ", ".join(f"{one.layer} {one.error:.1f}" for one in doctor.layers[:4]))
        trials = []
        for count in KEEP:
            content = doctor.convert(count)
            runtime = LiteRTModel(content)
            trials.append((accuracy(runtime.predict(images[val]), labels[val]), -count, runtime))
            print(
                f"  {count} in float: validation {trials[-1][0]:.1f} %, {len(content) / 1e6:.1f} MB",
                flush=True,
            )
        best = max(trials, key=lambda trial: trial[:2])
        found[whole] = [(-count, accuracy(one.predict(unseen), truth)) for _, count, one in (trials[0], best)]
        for count, value in found[whole]:
            print(f"  {count} in float: test {value:.1f} %, {value - keras_accuracy:+.1f} points")
    lost, left, ours = (
        keras_accuracy - found[whole][place][1] for whole, place in ((True, 0), (True, 1), (False, 1))
    )
    print(
        f"\nPlain int8 loses {lost:.1f} points, with the worst layers in float {left:.1f}; "
        f"with first layers and head in float, too, {ours:.1f}."
    )
    return 0 if lost > 2 and left <= 1 else 1


if __name__ == "__main__":
    sys.exit(main())
