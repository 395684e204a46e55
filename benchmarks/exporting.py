"""How long does an export take? This checkout against another one's, side by side in one run, files compared.

    git worktree add ../before COMMIT
    python benchmarks/exporting.py --before ../before [--images 2624] [--rounds 2] [--run RUN] [--json]

One run, as the demo makes it (EfficientNet-Lite0 at 224 px, linear probe, a quarter of the images for the test; ELPV
solar cells where the package ``elpv-dataset`` is installed, otherwise crops of scikit-learn's two photographs), or
``--run``. Each round exports it once by each checkout, in a process of its own: all formats, float32, float16 and int8.

Wall is the clock of ``export_run`` alone (imports are not counted). CPU is the processor time of that process
meanwhile, all threads: on a machine that others use, it is the fairer number. Printed are medians and the ratios.

Exit code 1 when the two make different ``.tflite`` files, golden vectors or labels.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from extraction import image_table

SAME = ("*.tflite", "golden/*", "labels.txt")
"""Files that one run always gives: a ``.keras`` file holds the date, a SavedModel is numbered anew each time."""
EXPORT = """
import json, sys, time
from keras_transfer.workflow.export import export_run
run, to = sys.argv[1:]
wall, processor = time.perf_counter(), time.process_time()
export_run(run, to, precisions=("float32", "float16", "int8"), allow_parity_failure=True)
print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - processor}))
"""


def measure(run: Path, checkouts: dict[str, Path], rounds: int, folder: Path) -> dict:
    """Export in turns; seconds by checkout, and the names of files that differ."""
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
    for number in range(rounds):
        for name, checkout in checkouts.items():
            seconds[name].append(export(run, checkout, folder / f"{name}{number}"))
    result: dict = {
        name: {clock: median(row[clock] for row in rows) for clock in ("wall", "cpu")}
        for name, rows in seconds.items()
    }
    result["ratios"] = {clock: result["before"][clock] / result["now"][clock] for clock in ("wall", "cpu")}
    result["different"] = different(*(folder / f"{name}0" for name in checkouts))
    return result


def export(run: Path, checkout: Path, to: Path) -> dict[str, float]:
    """One export by the code of a checkout, in a new process."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", EXPORT, str(run), str(to)]
    done = subprocess.run(command, env=environment, cwd=checkout, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{checkout} cannot export {run}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def different(one: Path, other: Path) -> list[str]:
    """Names of files that are not the same in two bundles."""
    found = {
        path.relative_to(folder).as_posix()
        for folder in (one, other)
        for pattern in SAME
        for path in folder.glob(pattern)
    }

    def content(folder: Path, name: str) -> bytes | None:
        return (folder / name).read_bytes() if (folder / name).is_file() else None

    return sorted(name for name in found if content(one, name) != content(other, name))


def made(folder: Path, images: int) -> Path:
    """The demo's run on so many images."""
    from keras_transfer.workflow.train import train

    (folder / "images").mkdir()
    table, _ = image_table(images, folder / "images")
    source = folder / "images.csv"
    with source.open("w", newline="") as file:
        rows = ((str(table.images.path(i)), table.label_text(i)) for i in range(len(table)))
        csv.writer(file).writerows([("path", "label"), *rows])
    values = {"backbone": "efficientnet_lite0", "image_size": 224, "strategy": "probe"}
    return train(source, folder / "run", image_root="/", val_fraction=0.0, test_fraction=0.25, **values).path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, required=True, metavar="PATH", help="another checkout")
    parser.add_argument("--images", type=int, default=2624)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--run", type=Path, help="a finished run, instead of the demo's")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    checkouts = {"before": arguments.before.resolve(), "now": Path(__file__).resolve().parents[1]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = arguments.run.resolve() if arguments.run else made(folder, arguments.images)
        result = measure(run, checkouts, arguments.rounds, folder)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        for name in checkouts:
            print(f"{name:8s} wall {result[name]['wall']:6.1f} s   CPU {result[name]['cpu']:6.1f} s")
        print("ratio    wall {wall:6.2f}     CPU {cpu:6.2f}".format(**result["ratios"]))
    if result["different"]:
        sys.exit(f"The two exports differ: {', '.join(result['different'])}")


if __name__ == "__main__":
    main()
