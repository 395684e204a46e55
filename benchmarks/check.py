"""Does `check` find what was planted, as well as cleanlab and a plain ranking do on the same probabilities?

    python benchmarks/check.py [--data FOLDER] [--parts labels,near] [--report docs/check.md]

The solar cells (extra ``demo``) and 3,000 garments of Fashion-MNIST (FOLDER holds the IDX files), features of
EfficientNet-Lite0 as in ``refit.py``. Labels: 5 % and 10 % are flipped, uniformly or between two classes that the probe
confuses most (at most a third of these two), over three seeds; the same out-of-fold probabilities are ranked by
`check`, by the given label's probability, and by cleanlab's ``find_label_issues`` (pip install cleanlab; left out where
it is missing). Near-duplicates: copies of each kind are planted, and the pairs with a copy are counted. With --report
the tables replace what is between the markers of the page. The script reports; there is no target.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from refit import cells, features_of, garments
from reporting import machine
from sklearn.metrics import average_precision_score

from keras_transfer.checking.label_errors import out_of_fold, rightness
from keras_transfer.checking.near import directions_of, near_pairs
from keras_transfer.checking.pictures import small_pictures
from keras_transfer.data.unlabelled import unlabelled_table
from keras_transfer.workflow.demo import elpv_folder

SHARES, SEEDS, GARMENTS = (0.05, 0.1), (0, 1, 2), 3000
COPIES = 30
"""Planted copies of each kind."""
START, END = "<!-- benchmarks/check.py -->", "<!-- end -->"


def flipped(labels: np.ndarray, share: float, pair: tuple[int, int] | None, seed: int) -> np.ndarray:
    """Labels of which a share is wrong; between the two classes of ``pair``, or any."""
    rng, found, classes = np.random.default_rng(seed), labels.copy(), int(labels.max()) + 1
    wanted = round(share * len(labels))
    if pair is None:
        rows = rng.choice(len(labels), wanted, replace=False)
        found[rows] = (labels[rows] + rng.integers(1, classes, len(rows))) % classes
        return found
    pool = np.flatnonzero(np.isin(labels, pair))
    rows = rng.choice(pool, min(wanted, len(pool) // 3), replace=False)
    found[rows] = sum(pair) - labels[rows]
    return found


def most_confused(features: np.ndarray, labels: np.ndarray) -> tuple[int, int]:
    """The two classes that probes take for one another most often."""
    rows, chances = out_of_fold(features, labels, int(labels.max()) + 1, 0)
    table = np.zeros((chances.shape[1],) * 2)
    np.add.at(table, (labels[rows], chances.argmax(axis=1)), 1)
    np.fill_diagonal(table, 0)
    first, second = np.unravel_index((table + table.T).argmax(), table.shape)
    return int(first), int(second)


def rankings(chances: np.ndarray, given: np.ndarray) -> dict[str, np.ndarray]:
    """Suspicion by each way, the higher the more; what a way does not name comes last."""
    own = chances[np.arange(len(given)), given]
    found = {"check": -rightness(chances, given), "plain ranking": -own}
    if importlib.util.find_spec("cleanlab") is not None:
        from cleanlab.filter import find_label_issues

        named = find_label_issues(given, chances, return_indices_ranked_by="self_confidence", n_jobs=1)
        found["cleanlab"] = np.zeros(len(given))
        found["cleanlab"][named] = np.arange(len(named), 0, -1)
    return found


def labels_table(sources: dict[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """Average precision and recall at the true number, means over the seeds."""
    lines: list[str] = []
    for name, (features, labels) in sources.items():
        confused = most_confused(features, labels)
        for share in SHARES:
            for how, pair in {"uniform": None, "two classes": confused}.items():
                if pair is not None and labels.max() == 1:
                    continue  # of two classes it is the same
                scores: dict[str, list[tuple[float, float]]] = {}
                for seed in SEEDS:
                    given = flipped(labels, share, pair, seed)
                    rows, chances = out_of_fold(features, given, int(labels.max()) + 1, seed)
                    wrong = (given != labels)[rows]
                    for way, suspicion in rankings(chances, given[rows]).items():
                        first = np.argsort(-suspicion, kind="stable")[: wrong.sum()]
                        ap = float(average_precision_score(wrong, suspicion))
                        scores.setdefault(way, []).append((ap, float(wrong[first].mean())))
                means = {way: np.mean(values, axis=0) for way, values in scores.items()}
                if not lines:
                    lines = [f"| data | flipped | {' | '.join(means)} |", f"|---|---|{'---|' * len(means)}"]
                cells_ = " | ".join(f"{ap:.2f}, {recall:.2f}" for ap, recall in means.values())
                lines.append(f"| {name} | {100 * share:.0f} %, {how} | {cells_} |")
                print(lines[-1], flush=True)
    return "\n".join(lines)


def _compressed(picture: Image.Image) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=60)
    return Image.open(io.BytesIO(file.getvalue())).convert("RGB")


def _cropped(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    across, down = round(width * 0.025), round(height * 0.025)
    return picture.crop((across, down, width - across, height - down))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "rescaled to 70 %": lambda one: one.resize((round(one.width * 0.7), round(one.height * 0.7))),
    "recompressed": _compressed,
    "cropped by 5 %": _cropped,
    "mirrored": ImageOps.mirror,
    "brightened": lambda one: Image.fromarray((np.asarray(one) * 1.15 + 10).clip(0, 255).astype(np.uint8)),
}


def near_table(folder: Path) -> str:
    """Recall of each kind of copy among the cells, precision of all pairs with a copy, and pairs without one."""
    source = folder / "copies"
    source.mkdir()
    originals = sorted((elpv_folder() / "images").glob("*.png"))
    rng, expected, kinds = np.random.default_rng(0), set(), []
    for at, row in enumerate(rng.choice(len(originals), COPIES * len(CHANGES), replace=False).tolist()):
        name, change = list(CHANGES.items())[at % len(CHANGES)]
        change(Image.open(originals[row]).convert("RGB")).save(source / f"{at:04d}.png")
        expected.add((row, len(originals) + at))
        kinds.append(name)
    table = unlabelled_table([*originals, *sorted(source.glob("*.png"))], "cells")
    directions = directions_of(features_of(table, 224))
    pairs = near_pairs(directions, small_pictures(table, np.arange(len(table))), table.sha256)
    found = {(pair.first, pair.second) for pair in pairs}
    with_copy = {pair for pair in found if pair[1] >= len(originals)}
    recalls = {
        name: np.mean([pair in found for pair in expected if kinds[pair[1] - len(originals)] == name])
        for name in CHANGES
    }
    lines = [
        f"| {' | '.join(recalls)} | all | precision | pairs without a copy |",
        f"|{'---|' * (len(recalls) + 3)}",
    ]
    total = len(found & expected) / len(expected)
    precision = len(found & expected) / max(len(with_copy), 1)
    values = [f"{100 * value:.0f} %" for value in (*recalls.values(), total, precision)]
    lines.append(f"| {' | '.join(values)} | {len(found) - len(with_copy)} |")
    print("\n".join(lines), flush=True)
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--parts", default="labels,near")
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    texts = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "labels" in options.parts:
            sources = {"ELPV": cells(folder), "Fashion-MNIST": garments(options.data)}
            taken = {
                key: (one.features[:limit], one.targets["classes"][:limit].astype(np.int64))
                for (key, one), limit in zip(sources.items(), (None, GARMENTS), strict=True)
            }
            texts.append(
                f"Labels, average precision and recall at the true number, means of {len(SEEDS)} seeds:\n\n"
                + labels_table(taken)
            )
        if "near" in options.parts:
            texts.append(
                f"Near-duplicates, {COPIES} copies of each kind among the solar cells, found with their originals:\n\n"
                + near_table(folder)
            )
    if options.report:
        text = "\n\n".join([*texts, f"Machine: {machine()}."])
        page = options.report.read_text(encoding="utf-8")
        between = re.compile(f"{re.escape(START)}.*?{re.escape(END)}", re.DOTALL)
        options.report.write_text(
            between.sub(lambda _: f"{START}\n\n{text}\n\n{END}", page), encoding="utf-8"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
