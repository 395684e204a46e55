"""How much two workers of one CPU do in the time of one: the same images, in clusters on this machine.

    python benchmarks/ray_workers.py
    python benchmarks/ray_workers.py --images 400 --backbone mobilenet_v2 --image-size 96

What is counted is the work itself, without the start of a cluster: the images of all shards but the first few, and the
time from the last of these to the end. Rounds of one and of two workers take turns, so that what else the machine does
meets both. Two workers need two idle CPUs.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from keras_transfer.quiet import import_tensorflow


def write_images(folder: Path, images: int, side: int) -> None:
    """JPEG files of a smooth random field each: they cost what photos cost to decode."""
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
    for number in range(images):
        coarse = Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        picture = coarse.resize((side, side), Image.Resampling.BICUBIC)
        picture.save(folder / "ab"[number % 2] / f"{number:06d}.jpg", quality=90)


def rate(photos: Path, output: Path, workers: int, arguments: argparse.Namespace) -> float:
    """Images a second of so many workers."""
    from keras_transfer_ray import job
    from keras_transfer_ray.features import features
    from keras_transfer_ray.settings import ClusterSettings

    from keras_transfer.settings import DataSettings, ModelSettings

    finished: list[tuple[float, int]] = []
    genuine = job.by_ray

    def timed(*given):
        for answer in genuine(*given):
            finished.append((time.perf_counter(), answer["images"]))
            yield answer

    job.by_ray = timed
    try:
        features(
            str(photos),
            str(output),
            model=ModelSettings(
                backbone=arguments.backbone, image_size=arguments.image_size, weights=arguments.weights
            ),
            data=DataSettings(min_per_class=1),
            cluster=ClusterSettings(workers=workers, shard_images=arguments.shard_images),
        )
    finally:
        job.by_ray = genuine
    # Every worker is at work from the first shard of the slowest starter on: leave out as many shards as two rounds.
    begin, rest = finished[2 * workers - 1][0], finished[2 * workers :]
    return sum(images for _, images in rest) / (rest[-1][0] - begin)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1600)
    parser.add_argument("--side", type=int, default=640, help="pixels of the files")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--shard-images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    import_tensorflow()
    found: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder) / "photos", arguments.images, arguments.side)
        for number in range(arguments.rounds):
            for workers in (1, 2):
                output = Path(folder) / f"{number}-{workers}"
                found[workers].append(rate(Path(folder) / "photos", output, workers, arguments))
    one, two = (statistics.median(found[workers]) for workers in (1, 2))
    for workers, rates in found.items():
        print(
            f"{workers} worker{'s' if workers > 1 else ''}: {', '.join(f'{each:.1f}' for each in rates)} images/s"
        )
    efficiency = statistics.median(b / a / 2 for a, b in zip(found[1], found[2], strict=True))
    print(
        f"medians {one:.1f} and {two:.1f} images/s; scaling efficiency {efficiency:.2f} (median of the rounds)"
    )


if __name__ == "__main__":
    main()
