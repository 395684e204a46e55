"""All-integer files: biases that are corrected through the file itself, and a name beside int8's."""

import json

import keras
import numpy as np
import pytest
from helpers_export import small_network
from tensorflow.lite.tools import flatbuffer_utils

from keras_transfer.errors import UsageError
from keras_transfer.export import all_integer, export_model
from keras_transfer.export.all_integer import better_of, convert_all_integer
from keras_transfer.export.bias_correction import Corrected, correct_biases
from keras_transfer.export.inspection import inspect_file
from keras_transfer.export.targets.plan import source_precisions, with_targets
from keras_transfer.export.targets.specs import TargetSpec, target_spec
from keras_transfer.litert import LiteRTModel, all_outputs, convert
from keras_transfer.records import ExportOptions

SIZE, STEP = 32, 1 / 256
SHIFT = 20_000
"""Steps of a bias: some tenths."""
layers = keras.layers


def images(count, seed=0):
    rng = np.random.default_rng(seed)
    colour = rng.uniform(20, 230, (count, 1, 1, 3))
    return np.clip(colour + rng.normal(0, 25, (count, SIZE, SIZE, 3)), 0, 255).astype(np.uint8)


def network(twice=False):
    """Convolutions whose weights spread over the channels as with a folded normalization; one may be used twice."""
    keras.utils.set_random_seed(5)
    image = keras.Input((SIZE, SIZE, 3), name="image")
    x = layers.Conv2D(8, 3, strides=2, activation="relu6")(layers.Rescaling(1 / 127.5, offset=-1)(image))
    x = layers.DepthwiseConv2D(3, activation="relu6", padding="same")(x)
    again = layers.Conv2D(8, 1, activation="relu6", name="again")
    x = again(x)
    x = again(x) if twice else x
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(16, 1, activation="relu6")(x))
    model = keras.Model(image, layers.Dense(3, activation="softmax")(x), name="network")
    rng = np.random.default_rng(6)
    for layer in model.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            spread = 10 ** rng.uniform(-0.5, 0.4, (*kernel.shape[:-2], kernel.shape[-2], 1))
            layer.set_weights([kernel * spread, rng.uniform(-0.2, 0.4, bias.shape)])
    return model


def opened(content):
    return flatbuffer_utils.convert_bytearray_to_object(bytearray(content))


def with_shifted_biases(content, steps):
    """The file with so much added to every bias of a convolution."""
    model = opened(content)
    graph = model.subgraphs[0]
    for tensor in graph.tensors:
        if tensor.type == 2 and model.buffers[tensor.buffer].data is not None and len(tensor.shape) == 1:
            data = np.frombuffer(bytes(bytearray(model.buffers[tensor.buffer].data)), np.int32)
            if len(data) >= 8:
                model.buffers[tensor.buffer].data = np.frombuffer((data + steps).tobytes(), np.uint8)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


@pytest.fixture(scope="module")
def pair():
    """A network as all-integer file, not corrected, and as float file."""
    model = network()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(all_integer, "better_of", lambda content, *_: content)
        return convert_all_integer(model, lambda: [images(16)]), convert(model)


def off(content, floats, given):
    """The mean difference of an output."""
    return float(np.abs(LiteRTModel(content).predict(given) - LiteRTModel(floats).predict(given)).mean())


def test_biases_that_are_off_are_brought_back_on_images_that_were_not_seen(pair):
    content, floats = pair
    broken = with_shifted_biases(content, SHIFT)
    found = correct_biases(broken, floats, images(16))
    unseen = images(40, seed=1)
    assert found.layers == 5
    assert off(broken, floats, unseen) > 10 * STEP
    assert off(found.content, floats, unseen) < off(broken, floats, unseen) / 5
    sound = correct_biases(content, floats, images(16)).content
    assert off(sound, floats, unseen) <= off(content, floats, unseen) + STEP / 4


def test_nothing_but_biases_changes(pair):
    content, floats = pair
    before, after = opened(content), opened(correct_biases(content, floats, images(16)).content)
    changed = []
    for one, other in zip(before.subgraphs[0].tensors, after.subgraphs[0].tensors, strict=True):
        assert (one.name, one.type, list(one.shape)) == (other.name, other.type, list(other.shape))
        held = [
            bytes(bytearray(m.buffers[t.buffer].data)) if m.buffers[t.buffer].data is not None else b""
            for m, t in ((before, one), (after, other))
        ]
        if held[0] != held[1]:
            changed.append(one)
    assert changed and {(tensor.type, len(tensor.shape)) for tensor in changed} == {(2, 1)}


def test_a_layer_that_is_used_twice_gets_a_bias_for_each_use():
    model = network(twice=True)
    made, floats = convert_all_integer(model, lambda: [images(16)]), convert(model)
    found = correct_biases(made.content, floats, images(16))
    operators = [one for one in opened(found.content).subgraphs[0].operators if len(one.inputs) == 3]
    assert found.layers == len(operators) == len({int(one.inputs[2]) for one in operators}) == 6
    assert off(found.content, floats, images(40, seed=1)) < 2 * STEP


def test_two_files_of_other_networks_are_left_alone(pair):
    content, _ = pair
    other = convert(keras.Model(*[(t := keras.Input((SIZE, SIZE, 3))), layers.Conv2D(2, 3)(t)]))
    assert correct_biases(content, other, images(2)) == Corrected(content, 0)
    note = better_of(content, other, images(2)).note
    assert note == "No bias was corrected: the integer and the float graph have not the same layers."


def test_what_is_closer_to_float_is_kept_and_told(pair, monkeypatch):
    content, floats = pair
    broken = with_shifted_biases(content, SHIFT)
    made = better_of(broken, floats, images(16))
    assert made.content != broken and off(made.content, floats, images(16)) < off(broken, floats, images(16))
    assert made.note.startswith(
        "The biases of 5 layers were corrected on 16 images: on 16 calibration images"
    )
    monkeypatch.setattr(all_integer, "correct_biases", lambda *_: Corrected(broken, 5))
    kept = better_of(content, floats, images(16))
    assert kept.content == content and kept.note.startswith("No bias was corrected: on 16 calibration images")


def test_every_output_of_a_file_is_given_with_what_it_can_hold(pair):
    content, floats = pair
    (((exact, low, high),),) = all_outputs(floats, images(1))
    assert exact.shape == (1, 3) and (low, high) == (-np.inf, np.inf)
    (((given, low, high),),) = all_outputs(content, images(1))
    assert (low, high) == (0.0, 255 * STEP) and low <= given.min() <= given.max() <= high
    np.testing.assert_array_equal(given, LiteRTModel(content).predict(images(1)))


@pytest.mark.slow
def test_an_all_integer_file_stands_beside_int8s_and_its_note_is_in_the_bundle(
    table, preprocessing, tmp_path
):
    report = export_model(
        small_network(),
        tmp_path / "edge",
        formats=("tflite",),
        precisions=("int8", "all-integer"),
        table=table,
        preprocessing=preprocessing,
        classes=table.classes,
        calibration_size=10,
        allow_parity_failure=True,  # it has learned nothing: a point of accuracy is chance
    )
    rows = {one.file: one for one in report.artefacts}
    assert list(rows) == ["model_int8.tflite", "model_all_integer.tflite"]
    kinds = {tensor.type for tensor in inspect_file(tmp_path / "edge" / "model_all_integer.tflite").tensors}
    assert "float32" not in kinds
    assert rows["model_all_integer.tflite"].parity.agreement >= 0.9
    note = rows["model_all_integer.tflite"].note
    assert "bias" in note and not rows["model_int8.tflite"].note
    content = json.loads((tmp_path / "edge" / "bundle.json").read_text())
    assert [row.get("note") for row in content["artefacts"]] == [None, note]
    assert note in (tmp_path / "edge" / "README.md").read_text()


@pytest.mark.parametrize(
    ("asked", "precisions", "alone", "source"),
    [
        ({}, ("float32", "int8"), True, "int8"),
        ({"precisions": ("int8",)}, ("int8", "all-integer"), False, "all-integer"),
        ({"precisions": ("int8",), "all_integer": True}, ("int8",), True, "int8"),
        ({"precisions": ("all-integer",)}, ("all-integer",), False, "all-integer"),
        ({"accuracy_budget": 1.0}, ("float32", "all-integer"), False, "all-integer"),
    ],
)
def test_a_target_without_float_brings_a_file_of_its_own_where_int8s_name_is_taken(
    asked, precisions, alone, source, monkeypatch
):
    monkeypatch.setattr(TargetSpec, "require", lambda self: None)
    options = with_targets(ExportOptions(targets=("microcontroller",), **asked))
    assert (options.asked, options.all_integer) == (precisions, alone)
    assert source_precisions(target_spec("microcontroller"), options) == (source,)
    assert with_targets(options) == options


def test_two_equal_files_are_refused():
    with pytest.raises(UsageError, match="two equal files"):
        ExportOptions(precisions=("int8", "all-integer"), all_integer=True)
