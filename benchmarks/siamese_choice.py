"""Does ``train --task siamese`` choose its head well where classes are few? Over many random splits of the classes.

    python benchmarks/siamese_choice.py --omniglot FOLDER [--fashion FOLDER] [--only omniglot] [--splits 30]
        [--report docs/results.md]

FOLDER holds ``images_background_small1.zip`` and ``images_background_small2.zip`` of Lake et al. 2015 (242 characters
by 20 hands). ``letters``: 93 characters in the 10 typefaces that come with matplotlib. ``fashion``: Fashion-MNIST
(Debian: dataset-fashion-mnist). ``elpv``: solar cells, of two kinds in four states each (pip: elpv-dataset).

For each split the classes that are known and those that are measured are drawn anew, and 10 images of each known class.
``auto`` is what a training does: :func:`keras_transfer_siamese.choosing.choose_by_folds`. Every single head is fitted
on the same images, and measured in the same 1,000 episodes of the unseen classes (20 ways or as many as there are, 1
shot). Features are computed once, and kept in the feature cache. Exit code 1 where ``auto`` is more than one point
below the best single head on average, or below raw features by more than chance (two standard errors over splits).
"""

from __future__ import annotations

import argparse
import gzip
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from keras_transfer_siamese.choosing import WITHIN, choose, choose_by_folds
from keras_transfer_siamese.comparison import Comparison
from keras_transfer_siamese.heads import ClosedForm, closed_forms
from keras_transfer_siamese.metrics import OneShot
from keras_transfer_siamese.sample import TYPEFACES, glyph
from keras_transfer_siamese.verification import Roc, pairs
from reporting import machine, write_section

from keras_transfer.backbones import load_backbone
from keras_transfer.data import load_data
from keras_transfer.features import extract
from keras_transfer.preprocessing import Preprocessing

EACH, TESTED, DIM, EPISODES = 10, 20, 128, 1000
"""Images of a known class, images of an unseen one at most, numbers of an embedding at most, episodes of a split."""
SHARES = (0.0, 0.25, 0.5, 1.0)
"""Standard errors within which a simpler head is taken, that are compared."""
CHARACTERS = (
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghijkmnpqrtuy23456789"  # without small letters like capital ones
    "ΓΔΘΛΞΠΣΦΨΩαβγδεζηθλμξπσφχψωБДЖИЛЦЧШЩЪЫЭЮЯ"
)


@dataclass(frozen=True)
class DataSet:
    """Images by class, and how they are split.

    Attributes:
        title: for the table.
        size: of the images, in pixels.
        known: numbers of classes to learn from.
        unseen: classes to measure on.
        read: from the arguments and a temporary folder to what ``load_data`` reads.
    """

    title: str
    size: int
    known: tuple[int, ...]
    unseen: int
    read: Callable[[argparse.Namespace, Path], Any]
    levels: int = 1


def omniglot(args: argparse.Namespace, work: Path) -> Path:
    """Eight alphabets, each once."""
    for number in (1, 2):
        with zipfile.ZipFile(args.omniglot / f"images_background_small{number}.zip") as archive:
            for name in archive.namelist():
                if name.endswith(".png"):
                    target = work / Path(*Path(name).parts[1:])
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.read(name))
    return work


def letters(args: argparse.Namespace, work: Path) -> tuple[np.ndarray, np.ndarray]:
    """Characters by typeface."""
    pictures = [np.asarray(glyph(character, face)) for character in CHARACTERS for face in TYPEFACES]
    return np.stack(pictures), np.repeat(np.arange(len(CHARACTERS)), len(TYPEFACES))


def fashion(args: argparse.Namespace, work: Path) -> tuple[np.ndarray, np.ndarray]:
    """Product photos, the first 60 of each of 10 classes."""
    images, labels = (
        np.frombuffer(
            gzip.decompress((args.fashion / f"train-{name}-ubyte.gz").read_bytes()), np.uint8, offset=start
        )
        for name, start in (("images-idx3", 16), ("labels-idx1", 8))
    )
    chosen = np.concatenate([np.flatnonzero(labels == label)[:60] for label in range(10)])
    return images.reshape(-1, 28, 28)[chosen], labels[chosen].astype(np.int64)


def elpv(args: argparse.Namespace, work: Path) -> tuple[np.ndarray, np.ndarray]:
    """Cells of two kinds, with four probabilities of a defect each: 40 of each of 8 classes."""
    from elpv_dataset.utils import load_dataset

    images, chances, kinds = load_dataset()
    names = [f"{kind} {chance:.2f}" for kind, chance in zip(kinds, chances, strict=True)]
    labels = np.unique(names, return_inverse=True)[1]
    order = np.random.default_rng(0).permutation(len(labels))  # neighbours may be of one module
    chosen = np.concatenate([order[labels[order] == label][:40] for label in range(labels.max() + 1)])
    return images[chosen], labels[chosen]


DATA_SETS = {
    "omniglot": DataSet("Omniglot, 20 unseen", 96, (10, 20, 40), 20, omniglot, levels=2),
    "letters": DataSet("letters in typefaces, 20 unseen", 64, (10, 20, 40), 20, letters),
    "fashion": DataSet("Fashion-MNIST, 3 unseen", 64, (7,), 3, fashion),
    "elpv": DataSet("ELPV cells by kind and state, 3 unseen", 224, (5,), 3, elpv),
}


def features_of(one: DataSet, args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Lite0's features ``(N, 1280)`` and labels."""
    with tempfile.TemporaryDirectory() as work:
        source = one.read(args, Path(work))
        table = load_data(source, levels=one.levels, min_per_class=1, val_fraction=0, test_fraction=0)
        backbone = load_backbone("efficientnet_lite0", image_size=one.size)
        found = extract(table, backbone, preprocessing=Preprocessing((one.size, one.size)))
    return found.values, table.labels


def run_split(features: np.ndarray, labels: np.ndarray, known: int, unseen: int, seed: int) -> dict[str, Any]:
    """One draw of classes and images: what every head comes to on the unseen classes, and what ``auto`` takes."""
    rng = np.random.default_rng((seed, known))
    order = rng.permutation(np.unique(labels))

    def some(classes: np.ndarray, most: int) -> np.ndarray:
        drawn = [rng.permutation(np.flatnonzero(labels == label))[:most] for label in classes]
        return np.concatenate(drawn)

    learn, test = some(order[:known], EACH), some(order[known : known + unseen], TESTED)
    trial = OneShot.draw(labels[test], EPISODES, seed)

    def accuracy(form: ClosedForm) -> float:
        return float(trial.accuracies(form.embed(features[test]), Comparison()).mean())

    forms = closed_forms(features[learn], labels[learn], DIM)
    single = {(form.name, form.asked): accuracy(form) for form in forms}
    choice = choose_by_folds(features[learn], labels[learn], DIM, "cosine", seed)
    form = choice.fit(features[learn], labels[learn], DIM)
    embeddings = form.embed(features[test])
    roc = Roc.of(*pairs(Comparison().scores(embeddings, embeddings), labels[test]))
    assert roc is not None and choice.roc is not None
    accepted, found = roc.at_threshold(choice.roc.equal_error[1])
    taken = [choose(choice.trials, share)[0] for share in SHARES]
    return {
        "single": single,
        "auto": accuracy(form),
        "within": [single[one.head, one.shrinkage] for one in taken],
        "equal_error": roc.equal_error[0],
        "at_threshold": (accepted, 1 - found),
    }


def difference(values: np.ndarray) -> tuple[float, float]:
    """Mean, and its standard error over splits."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def main() -> int:
    """Measure, print, and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--omniglot", type=Path, help="folder of the two zip files")
    parser.add_argument("--fashion", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--splits", type=int, default=30)
    parser.add_argument("--only", action="append", choices=list(DATA_SETS), help="repeatable; default: all")
    parser.add_argument("--report", type=Path)
    args = parser.parse_args()
    wanted = args.only or list(DATA_SETS)
    if "omniglot" in wanted and args.omniglot is None:
        parser.error(
            "--omniglot FOLDER is missing: the folder of images_background_small1.zip and small2.zip."
        )
    lines = [
        "| data | classes | raw | best single head | auto | auto - best | auto - raw |",
        "|---|---|---|---|---|---|---|",
    ]
    shares = ["| data | classes | " + " | ".join(f"{share:g}" for share in SHARES) + " |"]
    shares.append("|---|---|" + "---|" * len(SHARES))
    thresholds = [
        "| data | classes | equal error rate | false accepts | false rejects |",
        "|---|---|---|---|---|",
    ]
    passed = True
    for name in wanted:
        one = DATA_SETS[name]
        features, labels = features_of(one, args)
        for known in one.known:
            done = [run_split(features, labels, known, one.unseen, seed) for seed in range(args.splits)]
            heads = list(done[0]["single"])
            table = np.array([[split["single"][head] for head in heads] for split in done])
            auto, raw = np.array([split["auto"] for split in done]), table[:, heads.index(("raw", None))]
            place = int(table.mean(axis=0).argmax())
            best, (head, shrinkage) = table[:, place], heads[place]
            title = head if shrinkage is None else f"{head}, {shrinkage}"
            behind, ahead = difference(auto - best), difference(auto - raw)
            fine = behind[0] >= -0.01 and ahead[0] >= -2 * ahead[1]
            passed &= fine
            where = f"| {one.title} | {known} |"
            lines.append(
                f"{where} {raw.mean():.1%} | {best.mean():.1%} ({title}) | {auto.mean():.1%} "
                f"| {behind[0]:+.1%} ± {behind[1]:.1%} | {ahead[0]:+.1%} ± {ahead[1]:.1%} |"
            )
            told = np.mean([split["within"] for split in done], axis=0) - best.mean()
            shares.append(f"{where} " + " | ".join(f"{value:+.1%}" for value in told) + " |")
            accepted, rejected = np.mean([split["at_threshold"] for split in done], axis=0)
            equal = np.mean([split["equal_error"] for split in done])
            thresholds.append(f"{where} {equal:.1%} | {accepted:.1%} | {rejected:.1%} |")
            print(lines[-1], shares[-1], thresholds[-1], "" if fine else "MISSED", sep="\n", flush=True)
    text = REPORT.format(splits=args.splits, machine=machine())
    text += "\n".join([*lines, "", BETWEEN.format(within=WITHIN), *shares, "", THRESHOLDS, *thresholds])
    print(text)
    if args.report:
        write_section(args.report, "Choosing a head where classes are few", text)
    return 0 if passed else 1


REPORT = """    python benchmarks/siamese_choice.py --omniglot FOLDER --report docs/results.md

To choose a head on frozen Lite0 features, `train --task siamese` holds out every known class in turn. The table has the
one-shot accuracy on unseen classes: the mean over {splits} random splits of the classes, with 10 images of each known
class. The best single head is the one with the highest mean; in practice nobody knows it beforehand. The value behind
the ± of a difference is its standard error over the splits. Machine: {machine}.

"""
BETWEEN = """Accuracy of `auto` minus that of the best single head. The column says how many standard errors over
classes a simpler head may be behind the best head of the folds and still be chosen (`auto` uses {within:g}):
"""
THRESHOLDS = """Results on the unseen classes of the threshold at which both error rates are equal in the folds:
"""


if __name__ == "__main__":
    sys.exit(main())
