"""Real crops with several labels and with numbers, and a finished run on each, made once a test run."""

import csv

import numpy as np
import pytest
from keras_transfer_tests import SMALL
from PIL import Image, ImageFilter

from keras_transfer.run import open_run


@pytest.fixture(scope="session")
def multilabel_crops(shared, photos):
    """A CSV of 48 real crops of 96 pixels, some brightened, some blurred; some have no label."""

    def make(folder):
        rng = np.random.default_rng(0)
        rows = []
        for i in range(48):
            name = ("china", "flower")[i % 2]
            photo = photos[name]
            y, x = rng.integers(0, photo.shape[0] - 96), rng.integers(0, photo.shape[1] - 96)
            crop = Image.fromarray(photo[y : y + 96, x : x + 96])
            labels = ["flower"] if name == "flower" else []
            if i % 3 == 0:
                labels.append("bright")
                crop = crop.point(lambda value: int(0.35 * value + 165))
            if i // 2 % 2:
                labels.append("blurred")
                crop = crop.filter(ImageFilter.GaussianBlur(5))
            crop.save(folder / f"{i}.png")
            rows.append((f"{i}.png", ";".join(labels)))
        with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("path", "label"), *rows])

    return shared("multilabel_crops", make) / "labels.csv"


@pytest.fixture(scope="session")
def multilabel_run(shared, multilabel_crops):
    """A probe of the tiny backbone. Read-only."""
    from keras_transfer.workflow.train import train

    values = {**SMALL, "image_size": 96, "task": "multilabel", "test_fraction": 0.3}
    made = shared("multilabel_run", lambda folder: train(multilabel_crops, folder / "run", **values))
    return open_run(made / "run")


@pytest.fixture(scope="session")
def regression_crops(shared, photos):
    """340 real crops, darkened and blurred by known amounts: 51 of them are enough to choose the probe's strength on.

    The label is the mean brightness (``brightness.csv``), or that and the blur's radius (``both.csv``).
    """

    def make(folder):
        rng = np.random.default_rng(0)
        rows = []
        for i in range(340):
            photo = photos[("china", "flower")[i % 2]]
            y, x = rng.integers(0, photo.shape[0] - 96), rng.integers(0, photo.shape[1] - 96)
            crop = Image.fromarray((photo[y : y + 96, x : x + 96] * rng.uniform(0.3, 1)).astype(np.uint8))
            radius = float(rng.uniform(0, 6))
            crop = crop.filter(ImageFilter.GaussianBlur(radius))
            crop.save(folder / f"{i}.png")
            rows.append((f"{i}.png", f"{np.asarray(crop).mean():.4f};{radius:.4f}"))
        for name, keep in (("both.csv", slice(0, 2)), ("brightness.csv", slice(0, 1))):
            with (folder / name).open("w", newline="", encoding="utf-8") as file:
                cut = [(path, ";".join(label.split(";")[keep])) for path, label in rows]
                csv.writer(file).writerows([("path", "label"), *cut])

    return shared("regression_crops", make)


@pytest.fixture(scope="session")
def regression_run(shared, regression_crops):
    """A probe of the tiny backbone on both numbers. Read-only."""
    from keras_transfer.workflow.train import train

    data, values = regression_crops / "both.csv", {**SMALL, "task": "regression", "test_fraction": 0.3}
    made = shared("regression_run", lambda folder: train(data, folder / "run", **values))
    return open_run(made / "run")
