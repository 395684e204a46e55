"""What the cache saves: the features of the same images computed, and found. Both in one run.

    python benchmarks/cache.py [--images 200] [--json]

EfficientNet-Lite0 at 224 px on crops of two real photographs; the first extraction with an empty cache, the second with
what the first has kept. Exit code 1 when the second is less than 10 times faster or a number differs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

SIZE, BAR = 224, 10.0


def crops(folder: Path, count: int) -> Path:
    """``count`` random crops of the two photographs of scikit-learn, a folder each."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_image

    rng = np.random.default_rng(0)
    for name in ("china", "flower"):
        photo = load_sample_image(f"{name}.jpg")
        (folder / name).mkdir(parents=True)
        for number in range(count // 2):
            y, x = (int(rng.integers(0, side - SIZE)) for side in photo.shape[:2])
            Image.fromarray(photo[y : y + SIZE, x : x + SIZE]).save(folder / name / f"{number:04d}.png")
    return folder


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["KERAS_TRANSFER_CACHE"] = str(Path(folder) / "cache")
        import numpy as np

        import keras_transfer as ktr

        table = ktr.load_data(crops(Path(folder) / "photos", arguments.images))
        backbone = ktr.load_backbone("efficientnet_lite0", image_size=SIZE)
        pixels = ktr.Preprocessing(size=(SIZE, SIZE))
        first, second = (ktr.extract(table, backbone, preprocessing=pixels) for _ in range(2))
    same = bool(np.array_equal(first.values, second.values))
    result = {
        "images": len(table),
        "engine": first.engine,
        "computed_seconds": round(first.seconds, 3),
        "cached_seconds": round(second.seconds, 3),
        "ratio": round(first.seconds / second.seconds, 1),
        "same": same,
    }
    if arguments.json:
        print(json.dumps(result))
    else:
        print(
            f"{result['images']} images, {result['engine']}: computed in {result['computed_seconds']} s, found in "
            f"{result['cached_seconds']} s, {result['ratio']} times faster; the same numbers: {same}"
        )
    return int(not same or result["ratio"] < BAR or second.computed > 0)


if __name__ == "__main__":
    sys.exit(main())
