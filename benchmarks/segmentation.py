"""Brain and brain regions in MRI slices: a U-Net on a pretrained backbone, the same from random weights, and a peer's.

    python benchmarks/segmentation.py [--atlas FOLDER] [--peer PYTHON] [--rows ROW ...] [--report docs/results.md]

FOLDER holds ``ch2.nii.gz``, ``ch2bet.nii.gz``, ``aal.nii.gz`` and ``aal.nii.txt`` (Debian: package mricron-data): one
averaged head, its brain, and 116 regions, which are grouped into seven. Axial slices are split by blocks of 4 with 2
unused slices on either side; what lies between is learned from. Random slices would put each test slice between two
training slices that look the same. Same epochs, same batches, CPU; each finished row is kept in the results file (JSON
lines), from which a later run goes on. PYTHON is an interpreter with ``torch`` and
``segmentation-models-pytorch``: its U-Net learns from the same pixels, see segmentation_peer.py. On the brain, where
both are close, pretrained and peer are trained with two seeds each and compared by their means. Exit code 1 unless
the brain's IoU is at least 0.95, pretrained is at least as good as scratch and as the peer, float32 agrees on 99.9 % of
pixels, and int8 is within a point.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from keras_transfer_segmentation.classes import Classes
from keras_transfer_segmentation.pairs import load_pairs
from keras_transfer_segmentation.spec import SegmentationOptions
from PIL import Image
from reporting import read_results, write_section

from keras_transfer.backbones.efficientnet_lite import pip_file
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.workflow.export import export_run
from keras_transfer.workflow.train import train

GROUPS = {
    "frontal": "Precentral|Frontal|Rolandic|Supp_Motor|Olfactory|Rectus|Paracentral",
    "limbic": "Insula|Cingulum|Hippocampus|ParaHippocampal|Amygdala",
    "occipital": "Calcarine|Cuneus|Lingual|Occipital|Fusiform",
    "parietal": "Postcentral|Parietal|SupraMarginal|Angular|Precuneus",
    "subcortical": "Caudate|Putamen|Pallidum|Thalamus",
    "temporal": "Heschl|Temporal",
    "cerebellum": "Cerebelum|Vermis",
}
SIZES, EPOCHS, BATCH = {"brain": 192, "regions": 128}, {"brain": 20, "regions": 12}, 8
RATE = 4e-3
"""Peak learning rate of the U-Nets here, chosen by validation loss on the brain; the peer keeps its own."""
STARTS = {"pretrained": "full", "scratch": "scratch", "peer": ""}
"""And the strategy of each."""
ROWS = [f"{masks}/{start}" for masks in SIZES for start in STARTS]
SEEDS = dict.fromkeys(ROWS, 1) | {"brain/pretrained": 2, "brain/peer": 2}
LEARNED, GAP, HELD = 12, 2, 4
HELD_OUT = ("test", "val", "test")
"""What the held-out blocks are, in turn."""
TYPES = {2: np.uint8, 4: np.int16, 8: np.int32, 16: np.float32, 512: np.uint16}


def read_volume(path: Path) -> np.ndarray:
    """A NIfTI-1 file's voxels (x, y, z), little-endian."""
    content = gzip.decompress(path.read_bytes())
    (size,) = struct.unpack_from("<i", content, 0)
    if size != 348:
        raise SystemExit(f"{path} is not a little-endian NIfTI-1 file.")
    shape = struct.unpack_from("<4h", content, 40)[1:]
    (kind,) = struct.unpack_from("<h", content, 70)
    (start,) = struct.unpack_from("<f", content, 108)
    voxels = np.frombuffer(content, TYPES[kind], int(np.prod(shape)), int(start))
    return voxels.reshape(shape, order="F")


def regions(atlas: Path) -> tuple[np.ndarray, list[str]]:
    """The regions of the atlas grouped: 0 is none of them."""
    volume = read_volume(atlas / "aal.nii.gz").astype(int)
    groups = np.zeros(volume.max() + 1, np.uint8)
    for line in (atlas / "aal.nii.txt").read_text().splitlines():
        if not line.strip():
            continue
        number, name = line.split()[:2]
        for place, pattern in enumerate(GROUPS.values(), 1):
            if re.match(pattern, name):
                groups[int(number)] = place
    return groups[volume], ["other", *GROUPS]


def write_slices(folder: Path, head: np.ndarray, masks: np.ndarray, slices: np.ndarray) -> Path:
    """Axial slices as PNG pairs below ``train``, ``val`` and ``test``."""
    top = np.percentile(head, 99.9)
    period = LEARNED + 2 * GAP + HELD
    for place, z in enumerate(slices):
        block, within = divmod(place, period)
        if within < LEARNED:
            split = "train"
        elif LEARNED + GAP <= within < LEARNED + GAP + HELD:
            split = HELD_OUT[block % len(HELD_OUT)]
        else:
            continue
        grey = np.clip(head[:, :, z].T[::-1] / top * 255, 0, 255).astype(np.uint8)
        for name, picture in (("images", grey), ("masks", masks[:, :, z].T[::-1].astype(np.uint8))):
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ascontiguousarray(picture)).save(folder / split / name / f"{z:03d}.png")
    return folder


def measure(
    data: Path, folder: Path, names: list[str], strategy: str, settings: dict[str, Any]
) -> dict[str, Any]:
    """Train, export, compare."""
    options = SegmentationOptions(class_names=tuple(names))
    run = train(
        data, folder / "run", task="segmentation", task_options=options, strategy=strategy, **settings
    )
    report = export_run(
        run, folder / "edge", formats=("tflite",), precisions=("float32", "int8"), allow_parity_failure=True
    ).to_dict()
    rows = {row["precision"]: row for row in report["artefacts"]}
    metrics = run.info["metrics"]["test"]
    images = run.info["data"]["splits"]["train"]["images"] * run.info["training"]["gradient"]["epochs"]
    return {
        "strategy": strategy,
        "test_images": metrics["images"],
        "mean_iou": metrics["mean_iou"],
        "mean_dice": metrics["mean_dice"],
        "iou": {name: row["iou"] for name, row in metrics["per_class"].items()},
        "images_per_second": images / run.info["seconds"]["training"],
        "parameters": run.load_model().count_params(),
        "best_epoch": run.info["training"]["gradient"]["best_epoch"],
        "agreement": rows["float32"]["agreement"],
        "int8_mean_iou": rows["int8"]["mean_iou"],
    }


def measure_peer(
    python: str, data: Path, folder: Path, names: list[str], settings: dict[str, Any]
) -> dict[str, Any]:
    """The other library's U-Net on the same pixels, in its own process."""
    pairs = load_pairs(data, Classes(tuple(names)))
    rules = Preprocessing((settings["image_size"], settings["image_size"]))
    images, masks = (
        np.stack(part) for part in zip(*(pairs.load(i, rules) for i in range(len(pairs))), strict=True)
    )
    slices = folder / "slices.npz"
    np.savez(slices, images=images, masks=masks, splits=pairs.splits, classes=len(names))
    command = [python, str(Path(__file__).with_name("segmentation_peer.py")), str(slices)]
    command += ["--epochs", str(settings["epochs"]), "--batch", str(settings["batch_size"])]
    command += ["--weights", str(pip_file()), "--seed", str(settings["seed"])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"The peer failed:\n{done.stderr}")
    found = json.loads(done.stdout)
    return {**found, "strategy": "peer", "iou": dict(zip(names, found["iou"], strict=True))}


REPORT = """    python benchmarks/segmentation.py{peer_option} --report docs/results.md

The images are axial slices of one averaged head (`ch2`, 1 mm). They are split by blocks with unused slices between the
blocks; {tests} slices are test images. The model is a U-Net on EfficientNet-Lite0. Every layer and its batch
normalization are trained on the CPU, with batches of {batch} and a learning rate of {rate:g}. The mask of the brain is
learned at {sizes[brain]} px for {epochs[brain]} epochs, seven regions at {sizes[regions]} px for {epochs[regions]}
epochs. "pretrained" starts from ImageNet weights, "scratch" from random ones{peer}. All slices are of one head: the
table shows how well the network learns this head, and not how well it would do on another person. Figures are means
over the seeds; the standard deviation follows the ± where there are several seeds. Another seed changes the IoU of the
regions by about 0.03.

{table}

images/s counts training images, and its time includes validation. The machine was shared with other work. IoU of the
brain: {brain:.3f} (pretrained).
"""


def mean(found: list[dict[str, Any]], of: str) -> float:
    """Over the seeds."""
    return float(np.mean([one[of] for one in found]))


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    """The results as Markdown."""
    lines = [
        "| masks | start | seeds | mean IoU | mean Dice | int8 mean IoU | float32 agrees on | images/s | parameters |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, ones in found.items():
        masks, start = name.split("/")
        iou = f"{mean(ones, 'mean_iou'):.4f}"
        if len(ones) > 1:
            iou += f" ± {np.std([one['mean_iou'] for one in ones], ddof=1):.4f}"
        edge = "- | -"
        if "agreement" in ones[0]:
            edge = f"{mean(ones, 'int8_mean_iou'):.4f} | {100 * mean(ones, 'agreement'):.2f} %"
        lines.append(
            f"| {masks} | {start} | {len(ones)} | {iou} | {mean(ones, 'mean_dice'):.4f} | {edge} "
            f"| {mean(ones, 'images_per_second'):.1f} | {ones[0]['parameters'] / 1e6:.1f} M |"
        )
    return "\n".join(lines)


def known(results: Path) -> dict[str, list[dict[str, Any]]]:
    """What was measured before, by row, in the order of seeds."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(read_results(results), key=lambda row: row["seed"]):
        found.setdefault(row["row"], []).append(row)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atlas", type=Path, default=Path("/usr/share/mricron/templates"))
    parser.add_argument("--peer", metavar="PYTHON", help="interpreter with segmentation-models-pytorch")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS, metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--results", type=Path, default=Path(__file__).with_suffix(".jsonl"))
    parser.add_argument("--report", type=Path, help="write the table into this page")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    head, brain = (read_volume(options.atlas / f"{name}.nii.gz") for name in ("ch2", "ch2bet"))
    grouped, names = regions(options.atlas)
    slices = np.flatnonzero((brain > 0).sum(axis=(0, 1)) > 500)
    done = {(row["row"], row["seed"]) for rows in known(options.results).values() for row in rows}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for masks, volume, classes in (
            ("brain", brain > 0, ["outside", "brain"]),
            ("regions", grouped, names),
        ):
            data = write_slices(folder / masks, head, volume, slices)
            settings = {
                "image_size": SIZES[masks],
                "epochs": EPOCHS[masks],
                "patience": EPOCHS[masks],
                "batch_size": BATCH,
                "learning_rate": RATE,
                "batchnorm": "train",
                "augment": "light",
            }
            wanted = [
                name
                for name in options.rows
                if name.startswith(masks) and (options.peer or "peer" not in name)
            ]
            for name, seed in ((row, number) for row in wanted for number in range(SEEDS[row])):
                if (name, seed) in done:
                    continue
                settings["seed"] = seed
                if name.endswith("peer"):
                    one = measure_peer(options.peer, data, folder, classes, settings)
                else:
                    place = folder / "runs" / f"{name}-{seed}"
                    place.mkdir(parents=True)
                    one = measure(data, place, classes, STARTS[name.split("/")[1]], settings)
                with options.results.open("a") as file:
                    file.write(json.dumps({"row": name, "seed": seed, **one}) + "\n")
                print(name, seed, f"{one['mean_iou']:.4f}", file=sys.stderr, flush=True)
    found = known(options.results)
    missing = [
        name
        for name in ROWS
        if len(found.get(name, ())) < SEEDS[name] and (options.peer or not name.endswith("/peer"))
    ]
    if missing:
        print(f"Not measured yet: {', '.join(missing)}", file=sys.stderr)
        return 1
    found = {name: found[name] for name in ROWS if name in found}
    brain_iou = float(np.mean([one["iou"]["brain"] for one in found["brain/pretrained"]]))
    print(json.dumps(found, indent=1) if options.json else table(found))
    if options.report:
        version = next((ones[0]["version"] for name, ones in found.items() if name.endswith("peer")), None)
        peer = (
            f', "peer" is the U-Net of\nsegmentation_models.pytorch {version} on timm\'s Lite0 with the same ImageNet '
            "weights and its own recipe (Adam at 0.001, Dice and cross-entropy)"
        )
        text = REPORT.format(
            sizes=SIZES,
            epochs=EPOCHS,
            rate=RATE,
            batch=BATCH,
            tests=found["brain/pretrained"][0]["test_images"],
            table=table(found),
            brain=brain_iou,
            peer=peer if version else "",
            peer_option=" --peer PYTHON" if version else "",
        )
        write_section(options.report, "Brain regions", text)
    kept = brain_iou >= 0.95
    for masks in ("brain", "regions"):
        pretrained, scratch = found[f"{masks}/pretrained"], found[f"{masks}/scratch"]
        kept &= mean(pretrained, "mean_iou") >= mean(scratch, "mean_iou")
        kept &= all(one["agreement"] >= 0.999 for one in (*pretrained, *scratch))
        kept &= all(one["int8_mean_iou"] >= one["mean_iou"] - 0.01 for one in pretrained)
        kept &= mean(pretrained, "mean_iou") >= mean(found.get(f"{masks}/peer", pretrained), "mean_iou")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
