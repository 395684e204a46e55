"""How fast are frozen features? Ratios measured side by side in one run, medians of interleaved rounds.

    python benchmarks/extraction.py [--images 1024] [--rounds 5] [--json]

EfficientNet-Lite0 at 224 px with its ImageNet weights, on real images (ELPV solar cells where the package
``elpv-dataset`` is installed, otherwise crops of scikit-learn's two photographs, as PNG files). For ``litert``, for
``openvino`` where it is installed, and for ``openvino bfloat16`` where the processor has that, too:

- ``extract``: files -> features through ``keras_transfer.features.extract``, cache empty but for the converted
  backbone, whose conversion is reported on its own;
- ``bare``: the runtime alone, fed with decoded float32 batches from memory: LiteRT with an interpreter a core, OpenVINO
  with its throughput hint and its own queue of requests.

And once:

- ``decode``: the files to pixels, on all cores;
- ``predict``: the first ``keras.Model.predict`` of a process on one float32 array in memory: nothing to decode,
  but the model is traced, as every process must (a converted backbone is kept on disk);
- ``again``: ``extract`` once more, everything in the cache.

What this machine can do is ``decode`` and then ``bare``. Exit code 1 when an engine's share of that,
``(decode + bare) / extract``, is below 0.9, or again/extract of LiteRT below 20: these hold on any processor. How many
times faster than ``predict`` that is depends on the processor, and is told beside what the bare runtime would be.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from statistics import median

SIZE = (224, 224)
SHARE, AGAIN = 0.9, 20.0


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


class BareLiteRT:
    """An interpreter a core and nothing else, as many images a call as is fastest: what LiteRT gives."""

    def __init__(self, content: bytes, batches: list) -> None:
        from ai_edge_litert.interpreter import Interpreter

        from keras_transfer.data.threads import default_threads

        self.batches, self.free = batches, SimpleQueue()
        self.pool = ThreadPoolExecutor(default_threads())
        for _ in range(default_threads()):
            interpreter = Interpreter(model_content=content, num_threads=1)
            interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], batches[0].shape)
            interpreter.allocate_tensors()
            interpreter.invoke()  # the weights are packed in the first run
            self.free.put(interpreter)

    def answer(self, batch) -> None:
        interpreter = self.free.get()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], batch)
        interpreter.invoke()
        interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        self.free.put(interpreter)

    def run(self) -> None:
        list(self.pool.map(self.answer, self.batches))


class BareOpenVINO:
    """OpenVINO for throughput, with its own queue of requests, and nothing else."""

    def __init__(self, path: Path, batches: list, precision: str) -> None:
        import openvino

        core = openvino.Core()
        model = core.read_model(path)
        model.reshape(list(batches[0].shape))
        hint = {"float32": "f32", "bfloat16": "bf16"}[precision]
        settings = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": hint}
        self.queue = openvino.AsyncInferQueue(core.compile_model(model, "CPU", settings))
        self.batches = batches
        self.queue.start_async([batches[0]])
        self.queue.wait_all()

    def run(self) -> None:
        for batch in self.batches:
            self.queue.start_async([batch])
        self.queue.wait_all()


def engines_here() -> list:
    """What can be measured on this machine."""
    from keras_transfer.engine_choice import openvino_is_missing
    from keras_transfer.errors import UsageError
    from keras_transfer.inference import engines
    from keras_transfer.settings import EngineSettings

    found = [EngineSettings("litert")]
    if not openvino_is_missing():
        found.append(EngineSettings("openvino"))
        half = EngineSettings("openvino", "bfloat16")
        with contextlib.suppress(UsageError):
            engines.require(half)
            found.append(half)
    return found


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
    memory = [b.astype(np.float32) for b in batches(table, preprocessing, best_batch(*SIZE), indices=rows)]
    array = np.concatenate(memory)

    def features(asked, some=rows):
        settings = {"engine": asked.engine, "engine_precision": asked.engine_precision}
        found = extract(table, backbone, preprocessing=preprocessing, indices=some, **settings)
        assert (found.engine, found.engine_precision) == (asked.engine, asked.engine_precision), found.engine
        return found

    def name_of(asked) -> str:
        return (
            asked.engine
            if asked.engine_precision == "float32"
            else f"{asked.engine} {asked.engine_precision}"
        )

    asked = {name_of(one): one for one in engines_here()}
    preparation = {name: features(one, rows[:32]).preparation_seconds for name, one in asked.items()}
    (converted,) = (cache_dir() / "litert").glob("*.tflite")
    bare = {
        name: BareOpenVINO(converted, memory, one.engine_precision)
        if one.engine == "openvino"
        else BareLiteRT(converted.read_bytes(), memory)
        for name, one in asked.items()
    }
    seconds: dict[str, list[float]] = {}
    processor: dict[str, list[float]] = {}

    def timed(name: str, work):
        wall, used = time.perf_counter(), time.process_time()
        result = work()
        seconds.setdefault(name, []).append(time.perf_counter() - wall)
        processor.setdefault(name, []).append(time.process_time() - used)
        return result

    def decode():
        for _ in batches(table, preprocessing, indices=rows):
            pass

    difference = dict.fromkeys(asked, 0.0)
    for _ in range(rounds):
        shutil.rmtree(cache_dir() / "features")
        timed("decode", decode)
        values = {}
        for name, one in asked.items():
            first = timed(f"extract {name}", lambda one=one: features(one))
            timed(f"bare {name}", bare[name].run)
            assert first.computed == count
            values[name] = first.values
        assert timed("again", lambda: features(asked["litert"])).computed == 0
        pooled = load_backbone("efficientnet_lite0", image_size=SIZE, pooling="avg")
        plain = timed("predict", lambda pooled=pooled: pooled.predict(array, batch_size=32, verbose=0))
        for name, found in values.items():
            off = float(np.abs(plain - found).max() / np.abs(plain).max())
            difference[name] = max(difference[name], off)

    def ratio(slow: str, fast: str) -> float:
        return median([a / b for a, b in zip(seconds[slow], seconds[fast], strict=True)])

    def share(name: str) -> float:
        timings = zip(*(seconds[what] for what in ("decode", f"bare {name}", f"extract {name}")), strict=True)
        return median([(decode + bare) / extract for decode, bare, extract in timings])

    typical = {name: median(values) for name, values in seconds.items()}
    return {
        "images": count,
        "source": images,
        "preparation_seconds": preparation,
        "seconds": typical,
        "processor_seconds": {name: median(values) for name, values in processor.items()},
        "images_per_second": {name: count / value for name, value in typical.items()},
        "share": {name: share(name) for name in asked},
        "extract/predict": {name: ratio("predict", f"extract {name}") for name in asked},
        "bare/predict": {name: ratio("predict", f"bare {name}") for name in asked},
        "again/extract": ratio("extract litert", "again"),
        "bars": {"share": SHARE, "again/extract": AGAIN},
        "rounds": seconds,
        "difference_to_predict_of_scale": difference,
    }


def missed_bars(result: dict) -> list[str]:
    """What is below its bar."""
    missed = [f"share of {name}" for name, share in result["share"].items() if share < SHARE]
    return missed + (["again/extract"] if result["again/extract"] < AGAIN else [])


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
    missed = missed_bars(result)
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        print(f"{result['images']} images: {result['source']}; {options.rounds} rounds, medians")
        for name, seconds in result["seconds"].items():
            rate, used = result["images_per_second"][name], result["processor_seconds"][name]
            print(f"  {name:<25} {seconds:8.2f} s {rate:9.1f} images/s, {used:6.2f} s of processor time")
        for name, share in result["share"].items():
            print(f"  {name}: {share:.2f} of what this machine can do (bar {SHARE:g})")
            faster, most = result["extract/predict"][name], result["bare/predict"][name]
            print(f"    {faster:.1f}x predict; the bare runtime, from memory, {most:.1f}x")
            off, prepared = (
                result["difference_to_predict_of_scale"][name],
                result["preparation_seconds"][name],
            )
            print(f"    at most {off:.1e} of the scale from predict; prepared once in {prepared:.1f} s")
        print(f"  again/extract {result['again/extract']:.1f}x (bar {AGAIN:g}x)")
    if missed:
        print(f"Below the bar: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
