"""Which images does a model not know? Every measure of unfamiliarity beside the largest probability.

    python benchmarks/unknown.py [--data FOLDER] [--seeds 3] [--report docs/unknown.md]

Features of EfficientNet-Lite0 (ImageNet weights), kept in the feature cache. Near: Fashion-MNIST at 96 px (FOLDER holds
the IDX files), three classes left out by the seed. Far: the solar cells (extra ``demo``) at 224 px against crops of
photographs and against garments; crops of eight photographs against crops of three textures (scikit-image and
scikit-learn). Crops of one photograph overlap, so the accuracy there means nothing. Each seed draws its images; the
head is the probe of `train`. The script reports; the goals are in the page.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gan import read_idx
from PIL import Image
from refit import cells, features_of, garments, head, scores
from reporting import machine
from sklearn.datasets import load_sample_image
from sklearn.metrics import roc_auc_score, roc_curve

from keras_transfer.data import load_data
from keras_transfer.heads import LOGITS
from keras_transfer.training.probe import fit_probe
from keras_transfer.training.unfamiliarity import fit_detector

TRAIN, VAL, TEST, CROPS, OUTSIDE = 1600, 400, 1000, 100, 500
PHOTOS = ("coffee.png", "astronaut.png", "chelsea.png", "motorcycle_left.png", "camera.png", "rocket.jpg")
TEXTURES = ("brick.png", "grass.png", "gravel.png")
WAYS = ("softmax", "energy", "mahalanobis", "relative", "knn", "vim", "joint", "auto")
START, END = "<!-- benchmarks/unknown.py -->", "<!-- end -->"


@dataclass(frozen=True)
class Case:
    """Familiar features and classes, those of images of no class; ``left``: so many classes are left out instead."""

    name: str
    features: np.ndarray
    classes: np.ndarray
    outside: np.ndarray | None = None
    left: int = 0


def crops(names: tuple[str, ...], more: tuple[str, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Square crops of pictures, of 30 to 70 % of the shorter side, uint8 ``(N, 224, 224, 3)``, and whose they are."""
    import skimage.data

    folder, rng = Path(skimage.data.__file__).parent, np.random.default_rng(0)
    pictures = [Image.open(folder / name).convert("RGB") for name in names]
    pictures += [Image.fromarray(load_sample_image(name)) for name in more]
    found = []
    for picture in pictures:
        for _ in range(CROPS):
            side = round(min(picture.size) * rng.uniform(0.3, 0.7))
            left, top = (int(rng.integers(size - side + 1)) for size in picture.size)
            box = (left, top, left + side, top + side)
            found.append(np.asarray(picture.resize((224, 224), Image.Resampling.BILINEAR, box=box)))
    return np.stack(found), np.repeat(np.arange(len(pictures)), CROPS)


def cases(data: Path, folder: Path) -> list[Case]:
    """Everything that is measured."""

    def seen(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return features_of(load_data((images, labels)), 224)

    solar, clothes = cells(folder), garments(data)
    pictures, whose = crops(PHOTOS, ("china.jpg", "flower.jpg"))
    photos, textures = seen(pictures, whose), seen(*crops(TEXTURES))
    others, labels = read_idx(data, "t10k")
    worn = seen(others[:OUTSIDE], labels[:OUTSIDE].astype(np.int64))
    defects = solar.targets["classes"]
    return [
        Case("Fashion-MNIST, 3 classes left out", clothes.features, clothes.targets["classes"], left=3),
        Case("ELPV against photographs", solar.features, defects, photos),
        Case("ELPV against Fashion-MNIST", solar.features, defects, worn),
        Case("photographs against textures", photos, whose, textures),
    ]


def one_seed(case: Case, seed: int) -> dict[str, dict[str, float]]:
    """By way: ``auroc``, ``fpr`` (at 95 % of the outside found), ``rejected`` test images, ``all`` and ``answered``."""
    rng = np.random.default_rng(seed)
    left = rng.choice(np.unique(case.classes), case.left, replace=False)
    known = rng.permutation(np.flatnonzero(~np.isin(case.classes, left)))
    _, y = np.unique(case.classes, return_inverse=True)
    _, y[known] = np.unique(case.classes[known], return_inverse=True)
    cut = min(TRAIN, round(0.6 * len(known)))
    val_to = cut + min(VAL, round(0.15 * len(known)))
    train, val, test = known[:cut], known[cut:val_to], known[val_to : val_to + TEST]
    outside = case.outside
    if outside is None:
        outside = case.features[rng.permutation(np.flatnonzero(np.isin(case.classes, left)))[:TEST]]
    model = head(case.features.shape[1], int(y[known].max()) + 1)
    fit_probe(model, case.features, y, train=train, val=val, seed=seed)
    kernel, bias = model.get_layer(LOGITS).get_weights()
    right = scores(model, case.features[test]).argmax(axis=1) == y[test]
    found = {}
    for way in WAYS:
        one = fit_detector(
            way, case.features, y, train=train, val=val, head=(kernel, bias), reject=0.05, seed=seed
        )
        inner, outer = one.measure(case.features[test]), one.measure(outside)
        truth, value = np.repeat([0, 1], [len(inner), len(outer)]), np.concatenate([inner, outer])
        wrong, hit, _ = roc_curve(truth, value)
        answered = inner <= one.threshold
        found[way] = {
            "auroc": float(roc_auc_score(truth, value)),
            "fpr": float(wrong[np.argmax(hit >= 0.95)]),
            "rejected": float(1 - answered.mean()),
            "refused": float(np.mean(outer > one.threshold)),
            "all": float(right.mean()),
            "answered": float(right[answered].mean()),
        }
        print(case.name, seed, way, one.method, one.measure.bytes, found[way], one.trials, flush=True)
    return found


def table(several: dict[str, list[dict[str, dict[str, float]]]]) -> str:
    lines = [
        "| images | measure | AUROC | FPR at 95 % | familiar refused | outside refused | right | right, answered |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, seeds in several.items():
        for way in WAYS:
            mean = {key: float(np.mean([one[way][key] for one in seeds])) for key in seeds[0][way]}
            shares = " | ".join(
                f"{100 * mean[key]:.1f} %" for key in ("fpr", "rejected", "refused", "all", "answered")
            )
            lines.append(f"| {name} | {way} | {mean['auroc']:.3f} | {shares} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {
            case.name: [one_seed(case, seed) for seed in range(options.seeds)]
            for case in cases(options.data, Path(folder))
        }
    text = f"{table(found)}\n\nMeans of {options.seeds} seeds. Machine: {machine()}."
    print(text)
    if options.report:
        page = options.report.read_text(encoding="utf-8")
        between = re.compile(f"{re.escape(START)}.*?{re.escape(END)}", re.DOTALL)
        options.report.write_text(
            between.sub(lambda _: f"{START}\n\n{text}\n\n{END}", page), encoding="utf-8"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
