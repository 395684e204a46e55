"""What the target makes, and how the core runs it."""

from importlib.metadata import version

import numpy as np
from ai_edge_litert.compiled_model import CompiledModel

from keras_transfer.errors import ExportError
from keras_transfer.export.targets.base import Made, Target
from keras_transfer.inference.edges import in_steps, require_one_image
from keras_transfer.litert import LiteRTModel
from keras_transfer.quiet import captured_output

SCRIPT = '''\
"""Answer for one image: python {name} PIXELS.npy, with {kind} pixels of shape (1, {height}, {width}, 3)."""

import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.compiled_model import CompiledModel

model = CompiledModel.from_file(str(Path(__file__).parents[2] / "{file}"))
inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)
inputs[0].write(np.ascontiguousarray(np.load(sys.argv[1]), np.{kind}))
model.run_by_index(0, inputs, outputs)
print(outputs[0].read({numbers}, np.{answer}).tolist())
'''


class CompiledModelTarget(Target):
    """A script beside the ``.tflite``."""

    allowed = None  # as far as the precision of the file allows
    compared = True  # on all test images, like an artefact

    def make(self, source):
        """Write the script."""
        runner = self.open(source.path)
        (given,), (answer,) = runner.inputs, runner.outputs
        height, width = runner.input_size
        name = f"run_{source.path.stem}.py"
        text = SCRIPT.format(
            name=name,
            file=source.file,
            kind=given.dtype.name,
            height=height,
            width=width,
            answer=answer.dtype.name,
            numbers=int(np.prod(answer.shape[1:])),
        )
        (source.own("compiled-model") / name).write_text(text, encoding="utf-8")
        return Made(
            (f"targets/compiled-model/{name}",),
            measured={"script_bytes": len(text)},
            versions={"ai-edge-litert": version("ai-edge-litert")},
        )

    def open(self, path):
        """The ``.tflite`` in CompiledModel."""
        return CompiledModelRunner(path)


class CompiledModelRunner:
    """A ``.tflite`` of one image input and one output, asked image by image."""

    name = "compiled-model"

    def __init__(self, path):
        facts = LiteRTModel(path)
        self.inputs, self.outputs = facts.inputs, facts.outputs
        self.input_size = require_one_image(path, self.inputs, self.outputs)
        self._path = path
        try:
            with captured_output():  # it tells at length what accelerators there are not
                self._model = CompiledModel.from_file(str(path))
                self._given = self._model.create_input_buffers(0)
                self._answers = self._model.create_output_buffers(0)
        except RuntimeError as error:
            raise ExportError(f"CompiledModel refuses {path.name}: {error}") from error

    def predict(self, batch):
        """uint8 or float32 (B, H, W, 3), RGB in [0, 255] -> float32 (B, ...)."""
        source, target = self.inputs[0], self.outputs[0]
        return in_steps(batch, source, target, self._run, str(self._path))

    def _run(self, chunk):
        return np.concatenate([self._one(image) for image in chunk])

    def _one(self, image):
        self._given[0].write(np.ascontiguousarray(image))
        self._model.run_by_index(0, self._given, self._answers)
        shape = (1, *self.outputs[0].shape[1:])
        return np.array(self._answers[0].read(int(np.prod(shape)), self.outputs[0].dtype)).reshape(shape)

    def close(self):
        """Let go of the model."""
        with captured_output():
            del self._given, self._answers, self._model
