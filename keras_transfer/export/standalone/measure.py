"""Time one model file in a process of its own, so that its memory is its own: prints one JSON object.

    python measure.py FILE --threads N --seconds S [--black X --white X]

FILE is a .tflite, a .onnx, an OpenVINO .xml, a .keras file or a SavedModel folder. Only what that
kind needs is imported.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

WARM_UP, LEAST_RUNS, MOST_RUNS, BATCH = 3, 10, 1000, 8
Predict = Callable[[np.ndarray], Any]


def open_tflite(path: str, threads: int) -> Callable[[], tuple[Predict, tuple, Any]]:
    from ai_edge_litert.interpreter import Interpreter

    def load() -> tuple[Predict, tuple, Any]:
        runtime = Interpreter(model_path=path, num_threads=threads)
        runtime.allocate_tensors()
        source, target = runtime.get_input_details()[0], runtime.get_output_details()[0]

        def predict(pixels: np.ndarray) -> Any:
            if tuple(pixels.shape) != tuple(runtime.get_input_details()[0]["shape"]):
                runtime.resize_tensor_input(source["index"], pixels.shape)
                runtime.allocate_tensors()
            runtime.set_tensor(source["index"], pixels)
            runtime.invoke()
            return runtime.get_tensor(target["index"])

        return predict, tuple(int(size) for size in source["shape"][1:]), source["dtype"]

    return load


def open_onnx(path: str, threads: int) -> Callable[[], tuple[Predict, tuple, Any]]:
    import onnxruntime

    def load() -> tuple[Predict, tuple, Any]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        recorded = session.get_modelmeta().custom_metadata_map.get("keras_transfer", "{}")
        if json.loads(recorded).get("apart"):
            options.add_session_config_entry("session.disable_quant_qdq", "1")
            session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        source = session.get_inputs()[0]
        kind = {"tensor(uint8)": np.uint8, "tensor(int8)": np.int8}.get(source.type, np.float32)
        ask = one_by_one(lambda pixels: session.run(None, {source.name: pixels})[0])
        return ask, tuple(source.shape[1:]), kind

    return load


def open_openvino(path: str, threads: int) -> Callable[[], tuple[Predict, tuple, Any]]:
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
    }

    def load() -> tuple[Predict, tuple, Any]:
        core = openvino.Core()
        model = core.read_model(path)
        key = ["keras_transfer"]
        recorded = str(model.get_rt_info(key).value) if model.has_rt_info(key) else "{}"
        apart = {"LP_TRANSFORMS_MODE": False} if json.loads(recorded).get("apart") else {}
        request = core.compile_model(model, "CPU", {**settings, **apart}).create_infer_request()
        source = model.inputs[0]
        ask = one_by_one(lambda pixels: request.infer([pixels])[0])
        return ask, tuple(source.shape)[1:], source.element_type.to_dtype()

    return load


def one_by_one(predict: Predict) -> Predict:
    """Of a file for one image: a batch is asked image by image."""
    return lambda pixels: [predict(pixels[place : place + 1]) for place in range(len(pixels))]


def open_tensorflow(path: str, threads: int) -> Callable[[], tuple[Predict, tuple, Any]]:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)

    def load_keras() -> tuple[Predict, tuple, Any]:
        import keras

        with zipfile.ZipFile(path) as archive:
            if b"keras_transfer>" in archive.read("config.json"):  # a layer that Keras does not have
                import keras_transfer.backbones.classic  # noqa: F401 - makes it known
        model = keras.models.load_model(path, compile=False)
        return lambda pixels: model.predict(pixels, verbose=0), tuple(model.inputs[0].shape[1:]), np.float32

    def load_saved() -> tuple[Predict, tuple, Any]:
        loaded = tf.saved_model.load(path)
        signature = loaded.signatures["serving_default"]
        name, spec = next(iter(signature.structured_input_signature[1].items()))

        def predict(
            pixels: np.ndarray, _owner: Any = loaded
        ) -> Any:  # the variables live as long as `loaded`
            answers = signature(**{name: tf.constant(pixels)})
            return {key: answer.numpy() for key, answer in answers.items()}

        return predict, tuple(spec.shape[1:]), np.float32

    return load_saved if Path(path).is_dir() else load_keras


def timed(predict: Predict, pixels: np.ndarray, seconds: float) -> list[float]:
    """Milliseconds of each call, after a few that do not count."""
    for _ in range(WARM_UP):
        predict(pixels)
    times: list[float] = []
    while len(times) < LEAST_RUNS or (sum(times) < 1000 * seconds and len(times) < MOST_RUNS):
        start = time.perf_counter()
        predict(pixels)
        times.append(1000 * (time.perf_counter() - start))
    return times


def peak_megabytes() -> float:
    """The largest resident size of this process so far."""
    status = Path("/proc/self/status")
    if status.is_file():  # Linux's getrusage counts the process that started this one, too
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--black", type=float, default=0.0, help="the least number of the input")
    parser.add_argument("--white", type=float, default=255.0, help="the largest number of a float input")
    options = parser.parse_args()
    openers = {".tflite": open_tflite, ".onnx": open_onnx, ".xml": open_openvino}
    opener = openers.get(Path(options.file).suffix, open_tensorflow)
    load = opener(options.file, options.threads)
    runtime = peak_megabytes()
    start = time.perf_counter()
    predict, shape, kind = load()
    loaded = time.perf_counter() - start
    noise = np.random.default_rng(0).integers(0, 256, (BATCH, *shape)).astype(kind)
    if kind is np.float32:
        noise = noise / np.float32(255) * np.float32(options.white - options.black) + np.float32(
            options.black
        )
    start = time.perf_counter()
    predict(noise[:1])
    first = time.perf_counter() - start
    one = timed(predict, noise[:1], options.seconds)
    peak = peak_megabytes()
    many = timed(predict, noise, options.seconds)
    result = {
        "load_milliseconds": 1000 * loaded,
        "first_milliseconds": 1000 * first,
        "milliseconds": one,
        "images_per_second": 1000 * BATCH / float(np.median(many)),
        "runtime_megabytes": runtime,
        "peak_megabytes": peak,
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
