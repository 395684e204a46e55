"""What is promised of every exported ``.tflite``, whatever its task and precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def metadata_of(content: bytes) -> Any:
    """The TFLite metadata of a file, as MediaPipe's own reader sees them."""
    from mediapipe.tasks.metadata import metadata_schema_py_generated as reader
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    (entry,) = [entry for entry in model.metadata if entry.name == b"TFLITE_METADATA"]
    data = bytes(bytearray(model.buffers[entry.buffer].data))
    assert reader.ModelMetadata.ModelMetadataBufferHasIdentifier(data, 0)
    return reader.ModelMetadataT.InitFromObj(reader.ModelMetadata.GetRootAs(data, 0))


def require_strict(path: Path, names: tuple[str, ...], kind: str) -> None:
    """Distinct names, true shapes of a batch of one, metadata that name the outputs, and any batch in LiteRT."""
    from tensorflow.lite.tools import flatbuffer_utils

    from keras_transfer.export.metadata import attached_labels

    content = path.read_bytes()
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    (graph,) = model.subgraphs
    tensors = [bytes(tensor.name) for tensor in graph.tensors]
    assert len(set(tensors)) == len(tensors), "two tensors have one name"
    assert [tensor.name for tensor in graph.tensors if tensor.shapeSignature is not None] == []
    assert {int(graph.tensors[index].shape[0]) for index in (*graph.inputs, *graph.outputs)} == {1}
    _require_true_shapes(content, graph)
    (described,) = metadata_of(content).subgraphMetadata
    (output,) = described.outputTensorMetadata
    assert output.name.decode() == kind and [file.name for file in output.associatedFiles] == [b"labels.txt"]
    assert attached_labels(content) == names
    _require_any_batch(content)


def _require_true_shapes(content: bytes, graph: Any) -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    runtime = Interpreter(model_content=content, experimental_op_resolver_type=plain)
    runtime.allocate_tensors()
    runtime.invoke()
    for detail in runtime.get_tensor_details():
        if detail["index"] < len(graph.tensors):
            written = [int(size) for size in graph.tensors[detail["index"]].shape]
            assert written == detail["shape"].tolist(), detail["name"]


def _require_any_batch(content: bytes) -> None:
    """A batch of five answers like five batches of one, and one again after it."""
    from ai_edge_litert.interpreter import Interpreter

    runtime = Interpreter(model_content=content)
    (source,), (target,) = runtime.get_input_details(), runtime.get_output_details()
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (5, *source["shape"][1:])).astype(source["dtype"])
    if len(source["shape"]) == 2:
        images = random.normal(size=images.shape).astype(source["dtype"])

    def answers(size: int) -> np.ndarray:
        runtime.resize_tensor_input(source["index"], (size, *images.shape[1:]))
        runtime.allocate_tensors()
        found = []
        for start in range(0, len(images), size):
            runtime.set_tensor(source["index"], images[start : start + size])
            runtime.invoke()
            found.append(runtime.get_tensor(target["index"]).astype(np.float64))
        return np.concatenate(found)

    alone, together, again = answers(1), answers(5), answers(1)
    assert np.ptp(alone, axis=0).max() > 0, "the model gives one answer to everything"
    assert alone.shape == together.shape
    np.testing.assert_allclose(together, alone, atol=1e-4 * max(1.0, np.abs(alone).max()))
    np.testing.assert_array_equal(again, alone)
