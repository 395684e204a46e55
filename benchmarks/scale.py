"""How time and memory grow with the number of images: the table, the cached features, and the probe.

    python benchmarks/scale.py [--sizes 10000,100000,1000000] [--parts table,features,probe] [--folder FOLDER]
        [--report docs/scale.md] [--picture docs/scale.png]

Each measurement is a process of its own. Memory is the peak of what the process holds for itself (anonymous pages)
above what it holds after its imports; pages of a memory map belong to the system, which takes them back when it has to.

- table: a CSV of so many lines (100 classes), through `load_data`: splits, fingerprint, the recorded split. 200 rows
  are images that are decoded; the others are given a hash, as if they had been read.
- features: so many vectors of 1,280 numbers, in shards as `features` writes them, found and read by SHA-256. Before it
  the same files are read and hashed one after the other, and nothing else: what the disk and SHA-256 take.
- probe: logistic regression of 10 classes on them, from the memory map. Up to 32,768 images it has them in memory.

FOLDER needs 14 GB for a million. Growth is that of the last step, as a power of the number of images.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from reporting import machine

FEATURES, CLASSES, SHARD, PHOTOS = 1280, 10, 256, 200
START, END = "<!-- benchmarks/scale.py -->", "<!-- end -->"


class Peak:
    """The largest anonymous memory of this process meanwhile, in bytes above that at the beginning."""

    def __enter__(self) -> Peak:
        self._first, self.bytes, self._done = anonymous(), 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        self._begin = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds = time.perf_counter() - self._begin
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self.bytes = max(self.bytes, anonymous() - self._first)


def anonymous() -> int:
    """Bytes that this process holds for itself."""
    status = Path("/proc/self/status").read_text()
    return 1024 * sum(int(re.search(rf"{name}:\s+(\d+)", status)[1]) for name in ("RssAnon", "RssShmem"))  # type: ignore[index]


def digest(i: int) -> str:
    """The made-up SHA-256 of image ``i``."""
    from keras_transfer.hashing import sha256_of

    return sha256_of(f"image {i}".encode())


def table(count: int, folder: Path) -> dict[str, Any]:
    """A CSV of ``count`` lines becomes a table."""
    from PIL import Image

    from keras_transfer.data import checking, load_data

    path = folder / f"{count}.csv"
    with path.open("w") as file:
        file.write("path,label\n")
        file.writelines(f"{name_of(i)},class_{i % 100:03d}\n" for i in range(count))
    rng = np.random.default_rng(0)
    for i in range(PHOTOS):
        photo = folder / name_of(i)
        photo.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(photo)
    real, seconds = checking.check_file, [0.0]

    def read(path: Path, *arguments: Any) -> checking.Checked:
        number = int(path.stem.rpartition("_")[2])
        return real(path, *arguments) if number < PHOTOS else checking.Checked(digest(number), None)

    check_images = checking.check_images

    def timed(*arguments: Any, **named: Any) -> Any:
        start = time.perf_counter()
        try:
            return check_images(*arguments, **named)
        finally:
            seconds[0] += time.perf_counter() - start

    checking.check_file = read
    sys.modules["keras_transfer.data.assemble"].check_images = timed  # type: ignore[attr-defined]
    with Peak() as peak:
        found = load_data(path)
        found.fingerprint()
        found.write_csv(folder / "split.csv")
    assert len(found) == count
    return {"seconds": peak.seconds - seconds[0], "bytes": peak.bytes}


def name_of(i: int) -> str:
    """The made-up path of image ``i``."""
    return f"class_{i % 100:03d}/photo_{i:07d}.png"


def clouds(start: int, count: int) -> np.ndarray:
    """Features ``(count, 1280)`` of images: overlapping clouds, whose directions vary unequally."""
    rng = np.random.default_rng(start)
    spread = np.logspace(0, -2, FEATURES, dtype=np.float32)
    centres = np.random.default_rng(0).standard_normal((CLASSES, FEATURES), np.float32)
    labels = np.arange(start, start + count) % CLASSES
    return np.maximum(
        0.12 * centres[labels] * spread + rng.standard_normal((count, FEATURES), np.float32) * spread, 0
    )


def forget(folder: Path) -> None:
    """Have the system drop the pages of a folder's files, once they are on the disk."""
    os.sync()
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def features(count: int, folder: Path) -> dict[str, Any]:
    """Cached features of ``count`` images, found and read."""
    from keras_transfer.features.cache import FeatureCache
    from keras_transfer.features.room import room_for
    from keras_transfer.hashing import sha256_of

    cache = FeatureCache(folder / "cache")
    written = cache.collection({"benchmark": count}, {"backbone": "made up"})
    for start in range(0, count, SHARD):
        stop = min(start + SHARD, count)
        written.write([digest(i) for i in range(start, stop)], clouds(start, stop - start))
    size, begin = 0, time.perf_counter()
    for path in written.directory.iterdir():
        content = path.read_bytes()
        size += len(content)
        sha256_of(content)
    plain = time.perf_counter() - begin
    rows = {digest(i): i for i in range(count)}
    with Peak() as peak:
        values = room_for((count, FEATURES), folder)
        found = cache.collection({"benchmark": count}, {}).read(rows, values)
    assert len(found) == count
    np.testing.assert_array_equal(values[:SHARD], clouds(0, SHARD))
    return {"seconds": peak.seconds, "bytes": peak.bytes, "plain": plain, "size": size}


def probe(count: int, folder: Path) -> dict[str, Any]:
    """The probe on ``count`` features; a tenth of them, and at least 1,000, validate."""
    import keras

    from keras_transfer.features.room import room_for
    from keras_transfer.heads import LOGITS, add_head, split_head
    from keras_transfer.training.probe import fit_probe

    values = room_for((count, FEATURES), folder)
    for start in range(0, count, SHARD):
        values[start : start + SHARD] = clouds(start, min(SHARD, count - start))
    labels = np.arange(count) % CLASSES
    pixels = keras.Input((4, 4, 3))
    maps = keras.layers.Conv2D(FEATURES, 4, name="maps")(pixels)
    model = add_head(keras.Model(pixels, maps), CLASSES)
    cut = count - max(1000, count // 10)
    with Peak() as peak:
        result = fit_probe(model, values, labels, train=np.arange(cut), val=np.arange(cut, count))
    head, right = split_head(model)[1], 0
    for start in range(cut, count, 8192):
        answers = np.asarray(head(values[start : start + 8192])).argmax(axis=1)
        right += int((answers == labels[start : start + 8192]).sum())
    assert np.isfinite(model.get_layer(LOGITS).get_weights()[0]).all()
    return {"seconds": peak.seconds, "bytes": peak.bytes, "accuracy": right / (count - cut), "C": result.c}


PARTS: dict[str, Callable[[int, Path], dict[str, Any]]] = {
    "table": table,
    "features": features,
    "probe": probe,
}
WHAT = {
    "table": "The table, its splits, fingerprint and split.csv, beyond reading the files",
    "features": "Cached features, found and read",
    "probe": "The probe, from choosing the strength to the head",
}


def measured(part: str, count: int, folder: Path | None) -> dict[str, Any]:
    """One part in a process of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        environment = {
            **os.environ,
            "KERAS_TRANSFER_CACHE": f"{place}/cache",
            "KERAS_TRANSFER_CACHE_SIZE": "100GB",
        }
        command = [sys.executable, __file__, "--child", part, "--sizes", str(count), "--folder", place]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def report(found: dict[str, dict[int, dict[str, Any]]]) -> str:
    """The tables as Markdown."""
    lines = []
    for part, rows in found.items():
        lines += [
            f"\n{WHAT[part][0].upper()}{WHAT[part][1:]}:\n",
            "| images | seconds | memory | more |",
            "|---|---|---|---|",
        ]
        for count, row in rows.items():
            more = f"{row['bytes'] / count:.0f} bytes an image"
            if part == "features":
                speed = row["size"] / 1e6 / row["seconds"]
                more = f"{speed:,.0f} MB/s; {row['seconds'] / row['plain']:.2f} times reading and hashing these files"
            if part == "probe":
                more = f"{row['accuracy']:.2%} of the validation images right, C {row['C']:.2g}"
            lines.append(f"| {count:,} | {row['seconds']:.1f} | {row['bytes'] / 1e6:,.0f} MB | {more} |")
        counts = list(rows)
        if len(counts) > 1:
            last = counts[-2:]
            grown = [growth(last, [rows[one][key] for one in last]) for key in ("seconds", "bytes")]
            lines.append(
                f"\nFrom {last[0]:,} to {last[1]:,}: time N^{grown[0]:.2f}, memory N^{grown[1]:.2f}."
            )
    return "\n".join(lines)


def growth(counts: list[int], values: list[float]) -> float:
    """The power of N that values grow with."""
    return math.log(max(values[1], 1e-9) / max(values[0], 1e-9)) / math.log(counts[1] / counts[0])


def draw(found: dict[str, dict[int, dict[str, Any]]], path: Path) -> None:
    """Seconds and memory against the number of images."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for part, rows in found.items():
        for place, (key, scale) in zip(axes, (("seconds", 1.0), ("bytes", 1e6)), strict=True):
            place.loglog(list(rows), [max(row[key] / scale, 0.01) for row in rows.values()], "o-", label=part)
    for place, name in zip(axes, ("seconds", "memory, MB"), strict=True):
        place.set_xlabel("images")
        place.set_ylabel(name)
        place.grid(True, which="major", alpha=0.4)
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--child", choices=tuple(PARTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    if options.child:
        print(json.dumps(PARTS[options.child](sizes[0], options.folder)))
        return 0
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for part in options.parts.split(","):
        for count in sizes:
            found.setdefault(part, {})[count] = measured(part, count, options.folder)
            print(part, count, found[part][count], flush=True)
    text = f"{report(found)}\n\nMachine: {machine()}."
    print(text)
    if options.report:
        page = options.report.read_text(encoding="utf-8")
        before, _, rest = page.partition(START)
        options.report.write_text(f"{before}{START}\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    if options.picture:
        draw(found, options.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
