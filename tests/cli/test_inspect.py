"""``keras-transfer inspect`` and ``targets``: what a file holds, and which runtimes take it."""

import json
import subprocess
import sys

import pytest

from keras_transfer.testing.command import call

MINIMAL = ("edgetpu", "ethos-u", "litert", "microcontroller", "onnx", "openvino")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A model of two operators, one of which a microcontroller lacks."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import Builder

    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers, graph.tensors, model.operatorCodes, graph.operators = 3, [], [], [], []
    for place, (name, kind) in enumerate(
        (("image", "UINT8"), ("net/cast_1/Cast", "FLOAT32"), ("net/top/Relu", "FLOAT32"))
    ):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name.encode(), np.array([1, 8, 8, 3], np.int32), place
        tensor.type = getattr(schema.TensorType, kind)
        graph.tensors.append(tensor)
        model.buffers.append(schema.BufferT())
    for place, name in enumerate(("CAST", "RELU")):
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
        code.version = place + 1
        operator.opcodeIndex = place
        operator.inputs, operator.outputs = np.array([place], np.int32), np.array([place + 1], np.int32)
        model.operatorCodes.append(code)
        graph.operators.append(operator)
    graph.inputs, graph.outputs = np.array([0], np.int32), np.array([2], np.int32)
    model.subgraphs = [graph]
    builder = Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path = tmp_path_factory.mktemp("inspect") / "model.tflite"
    path.write_bytes(bytes(builder.Output()))
    return path


def test_it_prints_what_the_file_holds_and_who_takes_it(file):
    said, _ = call("inspect", str(file))
    assert "input: image uint8 [1, 8, 8, 3]" in said and "output: net/top/Relu float32" in said
    assert "batch: static" in said and "computes on: float32 (2)" in said
    lines = [line.split() for line in said.splitlines()]
    assert ["CAST", "1", "1"] in lines and ["RELU", "2", "1"] in lines
    assert "CAST of uint8 (it takes bool, float32, int16, int32, int8): layer cast_1." in " ".join(
        said.split()
    )


def test_json_has_all_of_it(file):
    content = json.loads(call("inspect", str(file), "--json")[0])
    assert content["operators"] == [
        {"name": "CAST", "version": 1, "count": 1},
        {"name": "RELU", "version": 2, "count": 1},
    ]
    states = {row["target"]: row["state"] for row in content["targets"]}
    assert tuple(states) == MINIMAL
    assert states["microcontroller"] == states["edgetpu"] == "refused" and states["openvino"] == "taken"


def test_one_target_may_be_asked_and_an_unknown_one_is_told_the_closest(file):
    content = json.loads(call("inspect", str(file), "--target", "onnx", "--json")[0])
    assert [row["target"] for row in content["targets"]] == ["onnx"]
    _, said = call("inspect", str(file), "--target", "onyx", code=2)
    assert "There is no target 'onyx'. Did you mean onnx?" in said


def test_a_file_that_is_none_is_a_sentence(tmp_path):
    (tmp_path / "photo.tflite").write_bytes(b"\xff\xd8\xff\xe0" * 9)
    _, said = call("inspect", str(tmp_path / "photo.tflite"), code=2)
    assert "is not a .tflite file" in said
    _, said = call("inspect", str(tmp_path / "gone.tflite"), code=2)
    assert "There is no file" in said


def test_it_needs_no_tensorflow(file):
    code = (
        "import sys\nfor name in ('tensorflow', 'keras'): sys.modules[name] = None\n"
        f"sys.argv = ['keras-transfer', 'inspect', {str(file)!r}]\n"
        "from keras_transfer.cli import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0 and "microcontroller" in done.stdout, done.stderr


def test_targets_lists_them_with_what_is_installed():
    rows = {row["name"]: row for row in json.loads(call("targets", "--json")[0])}
    assert tuple(rows) == MINIMAL
    assert rows["litert"]["installed"] and rows["litert"]["makes"] and rows["edgetpu"]["makes"]
    for row in rows.values():
        assert row["installed"] is not None or row["install"].startswith("pip install 'keras-transfer["), row
    said, _ = call("targets")
    assert all(name in said for name in MINIMAL)


def test_export_refuses_an_unknown_target_before_any_work():
    _, said = call("export", "nowhere", "--to", "edge", "--target", "microcontroler", code=2)
    assert "There is no target 'microcontroler'. Did you mean microcontroller?" in said
