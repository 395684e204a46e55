"""Does `check` find what was planted, as well as cleanlab and a plain ranking do on the same probabilities?

    python benchmarks/check.py [--data FOLDER] [--parts labels,near,...] [--report docs/check.md]

The solar cells (extra ``demo``), 2,000 garments of Fashion-MNIST (FOLDER holds the IDX files), features of
EfficientNet-Lite0 as in ``refit.py``, and scikit-learn's digits. The parts:

``labels``: 5 % and 10 % are flipped, uniformly or between two classes that the probe confuses most (at most a third of
these two); the same out-of-fold probabilities are ranked by `check`, by the given label's probability, and by
cleanlab's ``find_label_issues`` (pip install cleanlab; left out where it is missing). ``near``: copies of each kind
are planted. ``shortcuts``: one class gets a border or another resolution. ``leak``: what copies do to the test
accuracy. ``time``, ``memory``: of a check. With --report the tables of the parts that were run replace theirs in the
page. --sheets writes pictures of the first label errors as two PNG files (the cells' licence: CC BY-NC-SA). The script
reports; there is no target.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageOps
from refit import Source, cells, features_of, garments, head
from refit import scores as scores_of
from reporting import machine
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score

from keras_transfer.checking.balance import balance_issues
from keras_transfer.checking.label_errors import Doubt, doubts_of_classes, out_of_fold, rightness
from keras_transfer.checking.looks import look_issues
from keras_transfer.checking.near import clusters, directions_of, near_pairs, nearest
from keras_transfer.checking.outliers import NEIGHBOURS, outliers
from keras_transfer.checking.pairs import near_issues
from keras_transfer.checking.pictures import Closer, look_at, small_pictures
from keras_transfer.checking.shortcuts import shortcut_issues
from keras_transfer.data import load_data
from keras_transfer.data.labels import Labels
from keras_transfer.data.splits import make_splits
from keras_transfer.data.unlabelled import unlabelled_table
from keras_transfer.training.probe import fit_probe
from keras_transfer.workflow.demo import cell_table, elpv_folder

SHARES, SEEDS, GARMENTS = (0.05, 0.1), (1, 2), 2000
COPIES, IMAGES = 20, (1000, 4000)
"""Planted copies of each kind; numbers of images whose check is measured."""
PARTS = ("labels", "near", "shortcuts", "leak", "time", "memory")
DRAWS, SHOWN = 3, 30
CLOTHES = (
    "T-shirt",
    "trousers",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
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


def write_sheet(path: Path, pictures: Mapping[int, Image.Image], doubts: list[Doubt]) -> None:
    """The first doubts as one picture, six in a row: the label that is given, and what is expected, below each."""
    wide, high, a_row = 132, 124, 6
    sheet = Image.new("RGB", (a_row * wide, -(-len(doubts) // a_row) * high), "white")
    draw = ImageDraw.Draw(sheet)
    for at, doubt in enumerate(doubts):
        x, y = at % a_row * wide, at // a_row * high
        sheet.paste(pictures[doubt.row].convert("RGB").resize((84, 84)), (x + 24, y + 4))
        draw.text((x + 6, y + 91), f"{doubt.given}", fill="black")
        draw.text((x + 6, y + 106), f"or {doubt.expected}?", fill=(170, 0, 0))
    sheet.quantize(128).save(path)


def sheets(folder: Path, data: Path, places: tuple[Path, Path]) -> None:
    """The first label errors that are found in the labels as they are, of garments and of cells."""
    from gan import read_idx

    source, images = garments(data), read_idx(data, "train")[0]
    labels = source.targets["classes"][:GARMENTS].astype(np.int64)
    found = doubts_of_classes(source.features[:GARMENTS], labels, CLOTHES)[:SHOWN]
    write_sheet(
        places[0], {doubt.row: Image.fromarray(images[doubt.row].squeeze()) for doubt in found}, found
    )
    images_ = elpv_folder()
    (folder / "sheet.csv").write_text(cell_table(images_), encoding="utf-8")
    table = load_data(folder / "sheet.csv", image_root=images_)
    found = doubts_of_classes(features_of(table, 224), table.labels.astype(np.int64), table.classes)[:SHOWN]
    pictures = {doubt.row: Image.fromarray(table.images.load(doubt.row)) for doubt in found}
    write_sheet(places[1], pictures, found)


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
    "cropped at a corner": lambda one: one.crop(
        (round(one.width * 0.05), 0, one.width, one.height - round(one.height * 0.05))
    ),
    "turned by 2°": lambda one: one.rotate(2, Image.Resampling.BICUBIC, fillcolor=(128, 128, 128)),
    "mirrored": ImageOps.mirror,
    "brightened": lambda one: Image.fromarray((np.asarray(one) * 1.15 + 10).clip(0, 255).astype(np.uint8)),
}


def planted(sources: list[Path], rows: list[int], changes: list[str], folder: Path) -> list[Path]:
    """A changed copy of each of some files; the changes take turns."""
    folder.mkdir()
    found = []
    for at, row in enumerate(rows):
        found.append(folder / f"{at:04d}.png")
        CHANGES[changes[at % len(changes)]](Image.open(sources[row]).convert("RGB")).save(found[-1])
    return found


def cell_files() -> list[Path]:
    return sorted((elpv_folder() / "images").glob("*.png"))


def near_table(folder: Path) -> str:
    """Recall of each kind of copy among the cells, and how many of the pairs with a copy are right.

    The bound was chosen on copies of the cells of even numbers; those planted here are of odd numbers. The cells hold
    pairs that show one grain (wafers cut one after the other): where a copy is paired with such a neighbour of its
    original, and the original is, too, the pair is left out.
    """
    originals = cell_files()
    odd = np.arange(1, len(originals), 2)
    rows = np.random.default_rng(1).choice(odd, COPIES * len(CHANGES), replace=False).tolist()
    names = list(CHANGES)
    table = unlabelled_table([*originals, *planted(originals, rows, names, folder / "copies")], "cells")
    small = small_pictures(table, np.arange(len(table)))
    pairs = near_pairs(directions_of(features_of(table, 224)), small, table.sha256, Closer(table))
    count = len(originals)
    found = {(pair.first, pair.second) for pair in pairs}
    expected = [(row, count + at) for at, row in enumerate(rows)]
    original = {count + at: row for at, row in enumerate(rows)}
    wrong = [pair for pair in found if pair[1] >= count and pair not in set(expected)]
    neighbours = sum(tuple(sorted(original.get(row, row) for row in pair)) in found for pair in wrong)
    right = sum(pair in found for pair in expected)
    recalls = [np.mean([pair in found for pair in expected[at :: len(names)]]) for at in range(len(names))]
    lines = [
        f"| {' | '.join(names)} | all | precision | with neighbours counted as wrong | pairs without a copy |",
        f"|{'---|' * (len(names) + 4)}",
    ]
    precisions = right / max(right + len(wrong) - neighbours, 1), right / max(right + len(wrong), 1)
    values = [f"{100 * value:.0f} %" for value in (*recalls, right / len(expected), *precisions)]
    lines.append(f"| {' | '.join(values)} | {sum(pair[1] < count for pair in found)} |")
    print("\n".join(lines), flush=True)
    return "\n".join(lines)


def shortcuts_table(data: Path, folder: Path) -> str:
    """What is said of 300 garments of two classes that are clean, framed or of another resolution in one class."""
    from gan import read_idx

    images, labels = read_idx(data, "train")
    plants: dict[str, Callable[[Image.Image], Image.Image]] = {
        "nothing": lambda one: one,
        "a border in one class": lambda one: ImageOps.expand(one, 2, 128),
        "a tenth more pixels in one class": lambda one: one.resize((31, 31)),
    }
    lines = ["| planted | classes that are told, and by what |", "|---|---|"]
    for number, (plant, change) in enumerate(plants.items()):
        for label in (0, 1):
            (folder / f"plant{number}" / f"class{label}").mkdir(parents=True)
            for at, row in enumerate(np.flatnonzero(labels == label)[:150]):
                picture = Image.fromarray(images[row].squeeze())
                picture = change(picture) if label else picture
                picture.save(folder / f"plant{number}" / f"class{label}" / f"{at:03d}.png")
        table = load_data(folder / f"plant{number}")
        found = [f"{one.path}: {one.other}" for one in shortcut_issues(table, look_at(table))]
        lines.append(f"| {plant} | {', '.join(found) or 'none'} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def leak_table(folder: Path, cells_: Source) -> str:
    """Test accuracy of a probe on 1,000 cells, on the same with 200 changed copies, and with `check`'s groups."""
    originals, labels = cell_files(), cells_.targets["classes"].astype(np.int64)
    changes = ["rescaled to 70 %", "recompressed", "mirrored", "brightened"]
    scores: dict[str, list[float]] = {}
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        taken = rng.choice(len(originals), 1000, replace=False)
        rows = rng.permutation(1000)[:200].tolist()
        files = [originals[row] for row in taken]
        table = unlabelled_table([*files, *planted(files, rows, changes, folder / f"leak{seed}")], "cells")
        features = features_of(table, 224)
        small = small_pictures(table, np.arange(len(table)))
        pairs = near_pairs(directions_of(features), small, table.sha256, Closer(table))
        groups = np.array([f"alone {row}" for row in range(len(table))], dtype=object)
        for number, members in enumerate(clusters(pairs)):
            groups[members] = f"near {number}"
        truth = np.concatenate([labels[taken], labels[taken][rows]])
        for name, count, given in (
            ("without copies", 1000, groups[:1000]),
            ("20 % copies", 1200, None),
            ("20 % copies, with --groups", 1200, groups),
        ):
            for draw in range(DRAWS):
                splits = make_splits(
                    Labels("classes", ("0", "1"), truth[:count]),
                    table.sha256[:count],
                    given,
                    val_fraction=0.15,
                    test_fraction=0.2,
                    seed=draw,
                )
                train, val, test = (np.flatnonzero(splits == split) for split in ("train", "val", "test"))
                model = head(features.shape[1], 2)
                fit_probe(model, features[:count], truth[:count], train=train, val=val, seed=draw)
                told = scores_of(model, features[test]).argmax(axis=1)
                scores.setdefault(name, []).append(float(np.mean(told == truth[test])))
    lines = ["| data | test accuracy |", "|---|---|"]
    for name, values in scores.items():
        error = np.std(values, ddof=1) / np.sqrt(len(values))
        lines.append(f"| {name} | {100 * np.mean(values):.1f} % (standard error {100 * error:.1f}) |")
    print("\n".join(lines), flush=True)
    return "\n".join(lines)


def time_table(folder: Path) -> str:
    """Processor seconds of each part of a check of the cells, whose features are in the cache."""
    images = elpv_folder()
    source = folder / "timed.csv"
    source.write_text(cell_table(images), encoding="utf-8")
    spent: list[tuple[str, float]] = []

    def timed(name: str, work: Callable[[], Any]) -> Any:
        before = time.process_time()
        found = work()
        spent.append((name, time.process_time() - before))
        return found

    table = timed("reading the table", lambda: load_data(source, image_root=images))
    features = timed("features from the cache", lambda: features_of(table, 224))
    pictures = timed("looking at every image", lambda: look_at(table))
    directions = directions_of(features)
    pairs = timed(
        "near-duplicates", lambda: near_pairs(directions, pictures.small, table.sha256, Closer(table))
    )
    labels = table.labels.astype(np.int64)
    timed("label errors", lambda: doubts_of_classes(features, labels, table.classes))
    timed("outliers", lambda: outliers(nearest(directions, directions, NEIGHBOURS)[0]))
    timed("shortcuts", lambda: shortcut_issues(table, pictures))
    timed(
        "the rest",
        lambda: [*look_issues(table, pictures), *near_issues(table, pairs), *balance_issues(table)],
    )
    total = "together", sum(seconds for _, seconds in spent)
    lines = [f"| {len(table)} cells | seconds of one core |", "|---|---|"]
    lines += [f"| {name} | {seconds:.1f} |" for name, seconds in [*spent, total]]
    print("\n".join(lines), flush=True)
    return "\n".join(lines)


def memory_table(data: Path) -> str:
    """Peak memory of looking at garments and pairing them, above what images and features take, in processes."""
    lines = ["| images | peak above images and features, MB | KB an image |", "|---|---|---|"]
    for count in IMAGES:
        command = [sys.executable, __file__, "--data", str(data), "--peak", str(count)]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]
        lines.append(f"| {count} | {int(told) / 1024:.0f} | {int(told) / count:.1f} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def print_peak(data: Path, count: int) -> None:
    """KB that the process grows by in one check of the pictures of ``count`` garments."""
    from gan import read_idx

    images, labels = read_idx(data, "train")
    table = load_data((images[:count], labels[:count].astype(np.int64)))
    features = np.random.default_rng(0).normal(size=(count, 1280)).astype(np.float32)
    small = look_at(load_data((images[:64], labels[:64].astype(np.int64)))).small  # what is loaded once
    near_pairs(directions_of(features[:64]), small, tuple(map(str, range(64))))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    near_pairs(directions_of(features), look_at(table).small, table.sha256, Closer(table))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def report(path: Path, texts: dict[str, str]) -> None:
    """Put the parts that were run into the page, each with its machine; the others stay."""
    page = path.read_text(encoding="utf-8")
    before, rest = page.split(START)
    between, after = rest.split(END)
    held = dict(re.findall(r"<!-- (\w+) -->\n+(.*?)\n*(?=<!-- \w+ -->|\Z)", between, re.DOTALL))
    held |= {part: f"{text}\n\nMachine: {machine()}." for part, text in texts.items()}
    found = "\n\n".join(f"<!-- {part} -->\n\n{held[part]}" for part in PARTS if part in held)
    path.write_text(f"{before}{START}\n\n{found}\n\n{END}{after}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--sheets", type=Path, nargs=2, metavar=("GARMENTS", "CELLS"))
    options = parser.parse_args()
    if options.peak:
        print_peak(options.data, options.peak)
        return 0
    parts = options.parts.split(",")
    texts: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "labels" in parts:
            sources = {"ELPV": cells(folder), "Fashion-MNIST": garments(options.data)}
            taken = {
                key: (one.features[:limit], one.targets["classes"][:limit].astype(np.int64))
                for (key, one), limit in zip(sources.items(), (None, GARMENTS), strict=True)
            }
            digits = load_digits()
            taken["digits"] = digits.data.astype(np.float32), digits.target.astype(np.int64)
            texts["labels"] = (
                f"Labels, average precision and recall at the true number, means of {len(SEEDS)} seeds:\n\n"
                + labels_table(taken)
            )
        if "near" in parts:
            texts["near"] = (
                f"Near-duplicates, {COPIES} copies of each kind among the solar cells, found with their originals:\n\n"
                + near_table(folder)
            )
        if "shortcuts" in parts:
            texts["shortcuts"] = (
                f"Shortcuts, 300 garments of two classes:\n\n{shortcuts_table(options.data, folder)}"
            )
        if "leak" in parts:
            texts["leak"] = (
                f"Leaks, a probe on solar cells, {DRAWS * len(SEEDS)} splits:\n\n{leak_table(folder, cells(folder))}"
            )
        if "time" in parts:
            texts["time"] = f"Time, with the features in the cache:\n\n{time_table(folder)}"
        if "memory" in parts:
            texts["memory"] = f"Memory:\n\n{memory_table(options.data)}"
        if options.sheets:
            sheets(folder, options.data, tuple(options.sheets))
    if options.report:
        report(options.report, texts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
