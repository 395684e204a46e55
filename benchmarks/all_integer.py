"""What an all-integer file loses on real data, where it loses it, and what helps.

    python benchmarks/all_integer.py --network mobilenet --data elpv [--weights FILE] [--fashion FOLDER]
        [--results benchmarks/all_integer.jsonl] [--report docs/targets.md]

A probe on 1,000 images of ELPV (160 px; the extra ``demo``) or of Fashion-MNIST (96 px; FOLDER holds the IDX files,
Debian: package dataset-fashion-mnist), its strength chosen on 400 others, 1,000 to test on. FILE: weights of
keras.applications' MobileNet. The files are calibrated on 100 training images. Each line is one way to make the file:

- plain: as the converter makes it
- float head: its pooled features, and the head in float: what the integers of the head cost
- equalised: activations and weights scaled channel by channel before the conversion (Nagel et al. 2019, section 4.1),
  upwards and below the limit of ReLU6, by the root of what would make the ranges equal
- corrected: biases corrected through the file (what the export does)
- head fitted anew: the probe fitted on the features of the corrected file
- head brought back: a ridge regression from those features to the float logits of the training images

The results file keeps a line for each network and data set; the report is made of it.
"""

from __future__ import annotations

import argparse
import copy
import csv
import gzip
import io
import logging
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image
from reporting import keep_result, machine, read_results, write_section
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from keras_transfer.backbones import load_backbone
from keras_transfer.export import all_integer
from keras_transfer.export.bias_correction import correct_biases
from keras_transfer.heads import LOGITS, add_head, split_head
from keras_transfer.litert import LiteRTModel, convert
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.training.probe import fit_probe
from keras_transfer.workflow.demo import cell_table, elpv_folder

SIZES = {"elpv": 160, "fashion": 96}
LEARN, VALIDATE, TEST, CALIBRATE = 1000, 400, 1000, 100
layers = keras.layers
REPORT = """    python benchmarks/all_integer.py --network NETWORK --data DATA --results FILE --report docs/targets.md

A probe on 1,000 images, 100 of them for calibration, and 1,000 test images ({sizes}).
"Agreement" is with the float model, on test and validation images; "error" is the root mean square difference of a
logit from it. The script says what each file is; an export makes the corrected one.

{table}

The loss is the backbone's: the integers of the head cost nothing, because the probe bounds the spread of its weights.
So 16-bit activations in the head cannot help. Equalised ranges, and heads that are fitted on the integer features, add
nothing to corrected biases that is more than chance: one image in a thousand is a tenth of a point.

Machine: {machine}.
"""


def read(name: str, fashion: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 ``(N, H, W, 3)``, and class indices: to learn from, to validate, to test, in this order."""
    pixels = Preprocessing((SIZES[name], SIZES[name]))
    if name == "elpv":
        folder = elpv_folder()
        rows = list(csv.DictReader(io.StringIO(cell_table(folder))))
        order = np.random.default_rng(0).permutation(len(rows))[: LEARN + VALIDATE + TEST]
        images = [np.array(Image.open(folder / rows[row]["path"]).convert("RGB")) for row in order]
        labels = np.array([rows[row]["label"] == "intact" for row in order]).astype(np.int64)
        return np.stack([pixels.apply(image) for image in images]), labels
    parts = []
    for part, count in (("train", LEARN + VALIDATE), ("t10k", TEST)):
        raw = [
            gzip.decompress((fashion / f"{part}-{kind}-ubyte.gz").read_bytes())
            for kind in ("images-idx3", "labels-idx1")
        ]
        grey = np.frombuffer(raw[0], np.uint8)[16:].reshape(-1, 28, 28)[:count]
        parts.append((grey, np.frombuffer(raw[1], np.uint8)[8 : 8 + count].astype(np.int64)))
    grey, labels = (np.concatenate(each) for each in zip(*parts, strict=True))
    return np.stack([pixels.apply(np.repeat(one[..., np.newaxis], 3, axis=2)) for one in grey]), labels


def limit_of(layer: Any) -> float | None:
    """Where a rectifier clips: infinity, 6; None: it is none."""
    if type(layer) is layers.ReLU and not layer.negative_slope and not layer.threshold:
        return layer.max_value or np.inf
    known = {keras.activations.relu: np.inf, keras.activations.relu6: 6.0}
    return known.get(layer.activation) if type(layer) is layers.Activation else None


def pairs(model: keras.Model) -> list[tuple[Any, Any, list[Any]]]:
    """Normalization, rectifier, and the convolutions that read it and that nothing else reads."""
    readers: dict[int, list[Any]] = {}
    for layer in model.layers:
        for node in layer._inbound_nodes:
            for tensor in node.input_tensors:
                readers.setdefault(id(tensor), []).append(layer)
    found = []
    for layer in model.layers:
        if limit_of(layer) is None:
            continue
        norm = layer.input._keras_history.operation
        waiting, convolutions = list(readers.get(id(layer.output), [])), []
        while waiting:
            one = waiting.pop()
            padding = type(one) is layers.ZeroPadding2D
            waiting += readers.get(id(one.output), []) if padding else []
            convolutions += [] if padding else [one]
        own = type(norm) is layers.BatchNormalization and len(readers[id(norm.output)]) == 1
        if (
            own
            and convolutions
            and all(type(one) in (layers.Conv2D, layers.DepthwiseConv2D) for one in convolutions)
        ):
            found.append((norm, layer, convolutions))
    return found


def equalised(model: keras.Model, images: np.ndarray) -> keras.Model:
    """The same function with ranges that are more equal, channel by channel; exact where ReLU6 clips no new value."""
    found = pairs(model)
    taps = keras.Model(model.inputs, [keras.ops.max(one.output, axis=(1, 2)) for _, one, _ in found])
    largest = [part.max(axis=0) for part in taps.predict(images.astype(np.float32), batch_size=25, verbose=0)]
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    for (norm, rectifier, convolutions), most in zip(found, largest, strict=True):
        scale = np.sqrt(np.clip(most.max() / np.maximum(most, 1e-9), 1, 4096))
        scale[(most <= 0) | (most >= 0.999 * limit_of(rectifier))] = 1.0
        for variable in (twin.get_layer(norm.name).gamma, twin.get_layer(norm.name).beta):
            variable.assign(variable * scale)
        for one in convolutions:
            kernel = twin.get_layer(one.name).kernel
            kernel.assign(kernel / scale[:, np.newaxis])
    return twin


def plain(model: keras.Model, images: np.ndarray) -> bytes:
    """The all-integer file as the converter makes it."""
    chosen = all_integer.better_of
    all_integer.better_of = lambda content, *_: all_integer.AllInteger(content, "")
    try:
        return all_integer.convert_all_integer(model, lambda: [images]).content
    finally:
        all_integer.better_of = chosen


def ending_at(content: bytes, kind: int) -> LiteRTModel:
    """The model up to its last operator of a kind."""
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    graph = model.subgraphs[0]
    codes = [max(one.builtinCode, one.deprecatedBuiltinCode) for one in model.operatorCodes]
    last = max(place for place, one in enumerate(graph.operators) if codes[one.opcodeIndex] == kind)
    graph.operators = graph.operators[: last + 1]
    graph.outputs, model.signatureDefs = copy.copy(graph.operators[-1].outputs), None
    return LiteRTModel(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))


def measure(network: str, data: str, options: argparse.Namespace) -> dict[str, Any]:
    """Every way, for one network and one data set."""
    images, labels = read(data, options.fashion)
    rows = np.arange(len(images))
    train, val = rows[:LEARN], rows[LEARN : LEARN + VALIDATE]
    unseen = rows[LEARN:]
    weights = options.weights if network == "mobilenet" else "auto"
    backbone = load_backbone(network, weights=weights, image_size=SIZES[data])
    model = add_head(backbone, int(labels.max()) + 1, dropout=0.0, seed=0)
    features = LiteRTModel(convert(split_head(model)[0])).predict(images)
    fit_probe(model, features, labels, train=train, val=val)
    kernel, bias = model.get_layer(LOGITS).get_weights()
    exact, found = features @ kernel + bias, {}

    def note(way: str, logits: np.ndarray) -> None:
        """``logits``: of the images that nothing was learned from."""
        right = logits.argmax(axis=1) == labels[unseen]
        error = logits - exact[unseen]
        found[way] = {
            "validation": float(right[:VALIDATE].mean()),
            "test": float(right[VALIDATE:].mean()),
            "agreement": float((logits.argmax(axis=1) == exact[unseen].argmax(axis=1)).mean()),
            "error": float(np.sqrt(np.mean((error - error.mean(axis=1, keepdims=True)) ** 2))),
        }
        print(f"{network} {data}, {way}: {found[way]}", flush=True)

    sample = images[train[:CALIBRATE]]
    some = sample[:: CALIBRATE // all_integer.IMAGES]
    kinds = schema.BuiltinOperator

    def logits_of(content: bytes) -> np.ndarray:
        return ending_at(content, kinds.FULLY_CONNECTED).predict(images[unseen])

    note("float", exact[unseen])
    content, floats = plain(model, sample), convert(model)
    note("plain", logits_of(content))
    note("float head", ending_at(content, kinds.MEAN).predict(images[unseen]) @ kernel + bias)
    twin = equalised(model, sample)
    even = plain(twin, sample)
    note("equalised", logits_of(even))
    note("equalised and corrected", logits_of(correct_biases(even, convert(twin), some).content))
    content = correct_biases(content, floats, some).content
    note("corrected", logits_of(content))
    given = ending_at(content, kinds.MEAN).predict(images)
    spread = given[train] - given[train].mean(axis=0)
    missing = exact[train] - (given[train] @ kernel + bias)
    penalty = float((given[train] - features[train]).var(axis=0).mean()) * LEARN
    turn = spread.T @ np.linalg.solve(
        spread @ spread.T + penalty * np.eye(LEARN), missing - missing.mean(axis=0)
    )
    shift = missing.mean(axis=0) - given[train].mean(axis=0) @ turn
    note("corrected, head brought back", given[unseen] @ (kernel + turn) + bias + shift)
    fit_probe(model, given, labels, train=train, val=val)
    kernel, bias = model.get_layer(LOGITS).get_weights()
    note("corrected, head fitted anew", given[unseen] @ kernel + bias)
    return {"network": network, "data": data, "ways": found}


def table(results: list[dict[str, Any]]) -> str:
    """The results as Markdown."""
    lines = ["| network, data | file | validation | test | agreement | error |", "|---|---|---|---|---|---|"]
    for one in results:
        for way, row in one["ways"].items():
            cells = [f"{row[name]:.1%}" for name in ("validation", "test", "agreement")]
            lines.append(
                f"| {one['network']}, {one['data']} | {way} | {' | '.join(cells)} | {row['error']:.3f} |"
            )
    return "\n".join(lines)


def main() -> int:
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", choices=("efficientnet_lite0", "mobilenet"))
    parser.add_argument("--data", choices=tuple(SIZES))
    parser.add_argument("--fashion", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/all_integer.jsonl"))
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    if options.network and options.data:
        new = measure(options.network, options.data, options)
        keep_result(options.results, new, ("network", "data"))
    results = read_results(options.results)
    print(table(results))
    if options.report:
        sizes = ", ".join(f"{name} at {size} px" for name, size in SIZES.items())
        text = REPORT.format(sizes=sizes, table=table(results), machine=machine())
        write_section(options.report, "What all-integer costs", text)
    lost = [one["ways"]["float"]["test"] - one["ways"]["corrected"]["test"] for one in results]
    return 0 if max(lost, default=0.0) <= 0.01 + 1e-9 else 1


if __name__ == "__main__":
    sys.exit(main())
