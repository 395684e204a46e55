"""How fast are frozen features? Ratios measured side by side in one run, medians of interleaved rounds.

    python benchmarks/extraction.py [--images 1024] [--rounds 5] [--json]

EfficientNet-Lite0 at 224 px with its ImageNet weights, on real images (ELPV solar cells where the package
``elpv-dataset`` is installed, otherwise crops of scikit-learn's two photographs, as PNG files):

- ``extract``: files -> features through ``keras_transfer.features.extract(engine="litert")``, cache empty but
  for the converted backbone, whose conversion is reported on its own;
- ``predict``: the first ``keras.Model.predict`` of a process on one float32 array in memory: nothing to decode,
  but the model is traced, as every process must (a converted backbone is kept on disk);
- ``bare``: a loop around the interpreter alone, fed with decoded float32 batches from memory, at its fastest batch;
- ``again``: ``extract`` once more, everything in the cache.

Exit code 1 when a ratio is below its bar: extract/predict 3, extract/bare 0.9, again/extract 20.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median

SIZE = (224, 224)
BARS = {"extract/predict": 3.0, "extract/bare": 0.9, "again/extract": 20.0}


def image_table(count: int, folder: Path, **options):
    """``count`` real images of 300x300 as a table: ELPV, or crops written to ``folder``. Options of ``load_data``."""
    import numpy as np
    from PIL import Image

    from keras_transfer.data import load_data

    spec = find_spec("elpv_dataset")
    if spec is not None and spec.origin is not None:
        root = Path(spec.origin).parent / "data"
        lines = [line.split() for line in (root / "labels.csv").read_text().splitlines() if line.strip()]
        rows = [(path, "defect" if float(probability) > 0.5 else "sound") for path, probability, _ in lines]
        step = max(1, len(rows) // count)
        source = folder / "elpv.csv"
        with source.open("w", newline="") as file:
            csv.writer(file).writerows([("path", "label"), *rows[::step][:count]])
        return load_data(source, image_root=root, **options), "ELPV solar cells (300x300 grey PNG)"
    from sklearn.datasets import load_sample_image

    rng = np.random.default_rng(0)
    for name in ("china", "flower"):
        photo = load_sample_image(f"{name}.jpg")
        (folder / name).mkdir()
        for i in range(count // 2):
            y, x = rng.integers(0, photo.shape[0] - 300), rng.integers(0, photo.shape[1] - 300)
            Image.fromarray(photo[y : y + 300, x : x + 300]).save(folder / name / f"{i:04d}.png")
    return load_data(folder, **options), "crops of china.jpg and flower.jpg (300x300 colour PNG)"


class BareLoop:
    """The interpreter and nothing else, all threads, as many images per call as is fastest: what the hardware gives."""

    def __init__(self, content: bytes, batches: list) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.interpreter = Interpreter(model_content=content, num_threads=os.cpu_count())
        self.source = self.interpreter.get_input_details()[0]["index"]
        self.target = self.interpreter.get_output_details()[0]["index"]
        self.interpreter.resize_tensor_input(self.source, batches[0].shape)
        self.interpreter.allocate_tensors()
        self.batches = batches
        self.run(batches[:1])  # the weights are packed in the first run

    def run(self, batches: list | None = None) -> None:
        for batch in self.batches if batches is None else batches:
            self.interpreter.set_tensor(self.source, batch)
            self.interpreter.invoke()
            self.interpreter.get_tensor(self.target)


def measure(count: int, rounds: int, folder: Path) -> dict:
    """Run everything; seconds, rates and ratios."""
    import numpy as np

    from keras_transfer.backbones import load_backbone
    from keras_transfer.data import batches
    from keras_transfer.features import extract
    from keras_transfer.litert import best_batch
    from keras_transfer.paths import cache_dir
    from keras_transfer.preprocessing import Preprocessing

    (folder / "images").mkdir()
    table, images = image_table(count, folder / "images")
    count = len(table) // 8 * 8
    rows = np.arange(count)
    preprocessing = Preprocessing(SIZE)
    backbone = load_backbone("efficientnet_lite0", image_size=SIZE)

    start = extract(table, backbone, preprocessing=preprocessing, engine="litert", indices=rows[:32])
    (converted,) = (cache_dir() / "litert").glob("*.tflite")
    content = converted.read_bytes()
    memory = [b.astype(np.float32) for b in batches(table, preprocessing, best_batch(*SIZE), indices=rows)]
    array = np.concatenate(memory)
    bare = BareLoop(content, memory)
    seconds: dict[str, list[float]] = {name: [] for name in ("extract", "bare", "again", "predict")}
    processor: dict[str, list[float]] = {name: [] for name in seconds}

    def timed(name: str, work):
        wall, used = time.perf_counter(), time.process_time()
        result = work()
        seconds[name].append(time.perf_counter() - wall)
        processor[name].append(time.process_time() - used)
        return result

    def features():
        return extract(table, backbone, preprocessing=preprocessing, engine="litert", indices=rows)

    def predict():
        return pooled.predict(array, batch_size=32, verbose=0)

    difference = 0.0
    for _ in range(rounds):
        shutil.rmtree(cache_dir() / "features")
        first = timed("extract", features)
        timed("bare", bare.run)
        again = timed("again", features)
        assert (first.computed, again.computed) == (count, 0) and first.engine == "litert"
        pooled = load_backbone("efficientnet_lite0", image_size=SIZE, pooling="avg")
        plain = timed("predict", predict)
        difference = max(difference, float(np.abs(plain - first.values).max() / np.abs(plain).max()))
    typical = {name: median(values) for name, values in seconds.items()}
    return {
        "images": count,
        "source": images,
        "conversion_and_check_seconds": start.preparation_seconds,
        "seconds": typical,
        "processor_seconds": {name: median(values) for name, values in processor.items()},
        "images_per_second": {name: count / value for name, value in typical.items()},
        "ratios": {
            name: median([b / a for a, b in zip(seconds[fast], seconds[slow], strict=True)])
            for name in BARS
            for fast, slow in [name.split("/")]
        },
        "bars": BARS,
        "rounds": seconds,
        "difference_to_predict_of_scale": difference,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["KERAS_TRANSFER_CACHE"] = str(Path(folder) / "cache")
        result = measure(options.images, options.rounds, Path(folder))
    missed = [name for name, bar in BARS.items() if result["ratios"][name] < bar]
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        print(f"{result['images']} images: {result['source']}; {options.rounds} rounds, medians")
        for name, seconds in result["seconds"].items():
            rate, used = result["images_per_second"][name], result["processor_seconds"][name]
            print(f"  {name:<8} {seconds:8.2f} s {rate:9.1f} images/s, {used:6.2f} s of processor time")
        print(f"  conversion and self-check, once: {result['conversion_and_check_seconds']:.1f} s")
        print(f"  largest difference to predict: {result['difference_to_predict_of_scale']:.1e} of the scale")
        for name, bar in BARS.items():
            print(f"  {name:<16} {result['ratios'][name]:6.2f}x (bar {bar:g}x)")
    if missed:
        print(f"Below the bar: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
