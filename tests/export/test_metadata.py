"""TFLite metadata, seen by a client that others wrote: MediaPipe Tasks."""

import numpy as np
import pytest
from keras_transfer_tests.strict import metadata_of

from keras_transfer.errors import ExportError
from keras_transfer.export.metadata import attached_labels, describe_model
from keras_transfer.litert import LiteRTModel, convert

mediapipe = pytest.importorskip("mediapipe")


def described(content, labels, size=(96, 96)):
    return describe_model(content, labels, size=size, name="small", description="Two photographs.")


def test_the_tables_say_what_they_should(small):
    metadata = metadata_of(described(convert(small), ["china", "flower"]))
    (graph,) = metadata.subgraphMetadata
    (image,), (output,) = graph.inputTensorMetadata, graph.outputTensorMetadata
    assert (metadata.name, metadata.description) == (b"small", b"Two photographs.")
    assert image.name == b"image" and image.content.contentProperties.colorSpace == 1
    size = image.content.contentProperties.defaultSize
    assert (size.height, size.width) == (96, 96)
    (unit,) = image.processUnits
    assert (unit.options.mean.tolist(), unit.options.std.tolist()) == ([0], [1])
    assert image.stats.min.tolist() == [0] and image.stats.max.tolist() == [255]
    (file,) = output.associatedFiles
    assert file.name == b"labels.txt" and file.type == 2


def test_the_model_computes_the_same_and_the_file_is_the_same_each_time(small, held_out):
    content = convert(small)
    once = described(content, ["china", "flower"])
    np.testing.assert_array_equal(LiteRTModel(once).predict(held_out), LiteRTModel(content).predict(held_out))
    assert described(content, ["china", "flower"]) == once


@pytest.mark.slow
def test_labels_in_any_script(small):
    labels = ["שלום עולם", "🪴 Blume, groß"]
    assert attached_labels(described(convert(small), labels)) == tuple(labels)
    assert attached_labels(convert(small)) is None


def test_several_outputs_are_refused(small):
    import keras

    double = keras.Model(small.inputs, [small.outputs[0], small.layers[-2].output])
    with pytest.raises(ExportError, match="2 outputs"):
        described(convert(double), ["china", "flower"])
