"""What ``inspect`` reads out of a ``.tflite``, and what it refuses to read."""

import random

import numpy as np
import pytest
from helpers_export import graph_of, small_network
from micro_probe import SHAPE, build

from keras_transfer.errors import ExportError, KerasTransferError, UsageError
from keras_transfer.export.inspection import inspect_bytes, inspect_file, layer_of
from keras_transfer.litert import convert


@pytest.mark.parametrize("file", ["model.tflite", "model_int8.tflite"])
def test_operators_types_and_sizes_are_those_of_the_file(small_bundle, file):
    content = (small_bundle / file).read_bytes()
    facts = inspect_file(small_bundle / file)
    expected = graph_of(content)
    assert [one.name for one in facts.operators] == [name for name, _, _ in expected]
    results = [facts.tensors[one.outputs[0]].type for one in facts.operators]
    assert results == [kind.lower() for _, _, kind in expected]
    assert facts.bytes == len(content) > facts.weights > 0
    assert facts.batch == "one, resizable" and facts.tensors[facts.inputs[0]].shape == (1, 96, 96, 3)


def test_quantization_is_told_per_tensor_and_per_channel(small_bundle):
    facts = inspect_file(small_bundle / "model_int8.tflite")
    kinds = facts.to_dict()["weight_quantization"]
    assert kinds["int8 per channel"] >= 1
    moving = {one.quantization for one in facts.tensors if one.type == "int8" and not one.constant}
    assert moving == {"per tensor"}
    assert {one.quantization for one in inspect_file(small_bundle / "model.tflite").tensors} == {"none"}


def test_layers_have_their_names(small_bundle):
    facts = inspect_file(small_bundle / "model.tflite")
    layers = {one.name: facts.layer(one) for one in facts.operators}
    assert layers["CONV_2D"].startswith("conv2d") and layers["FULLY_CONNECTED"].startswith("dense")
    assert layers["SOFTMAX"].startswith("after dense")  # the converter calls the result PartitionedCall:0


def test_a_layer_is_the_last_name_before_the_operation():
    assert layer_of("net_1/block1a_bn_1/add_1;net_1/block1a_conv_1/convolution;") == "block1a_bn_1"
    assert layer_of("net_1/aspp_2/convolution/SpaceToBatchND") == "aspp_2"
    assert layer_of("PartitionedCall:0") == layer_of("") == ""


def test_a_free_batch_and_a_static_one_are_told_apart():
    assert inspect_bytes(convert(small_network())).batch == "free"
    assert inspect_bytes(build("ABS", [(SHAPE, "float32")], (SHAPE, "float32"))).batch == "static"


def test_live_bytes_are_the_tensors_in_use_while_an_operator_runs():
    content = build("CONCATENATION", [(SHAPE, "int8")] * 2, ((1, 4, 4, 16), "int8"))
    assert inspect_bytes(content).live_bytes() == [128 + 128 + 256]
    constant = np.zeros((1, 8), np.int8)
    content = build("FULLY_CONNECTED", [((1, 8), "int16"), constant], ((1, 1), "int16"))
    facts = inspect_bytes(content)
    assert facts.live_bytes() == [16 + 2] and facts.weights == 8


def test_what_is_no_tflite_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"There is no file .*gone.tflite"):
        inspect_file(tmp_path / "gone.tflite")
    for content in (b"", b"PNG", b"\x89PNG\r\n\x1a\n" * 9):
        path = tmp_path / "picture.tflite"
        path.write_bytes(content)
        with pytest.raises(UsageError, match=r"is not a .tflite file .* lacks the mark TFL3"):
            inspect_file(path)


def test_a_damaged_file_ends_in_a_sentence_whatever_is_damaged():
    whole = build("CONCATENATION", [(SHAPE, "int8")] * 2, ((1, 4, 4, 16), "int8"))
    chance, refused = random.Random(0), 0
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(3):
            content[chance.randrange(8, len(content))] = chance.randrange(256)
        try:
            inspect_bytes(bytes(content))
        except KerasTransferError as error:
            refused += isinstance(error, ExportError) and "damaged" in str(error)
    assert refused > 30
    with pytest.raises(ExportError, match="damaged"):
        inspect_bytes(whole[:60])
