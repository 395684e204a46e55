"""The target's spec: facts only, so that listing it imports neither TensorFlow nor NumPy."""

from keras_transfer.export.targets.rules import LITERT
from keras_transfer.export.targets.specs import TargetSpec

COMPILED_MODEL = TargetSpec(
    name="compiled-model",
    summary="LiteRT's CompiledModel, with a script that runs the file.",
    precisions=("float32", "float16", "dynamic", "int8"),
    rules=LITERT,
    sources="all",
    package="ai-edge-litert",
    oldest="2.1",
    distribution="kt-compiled-model",
    factory="kt_compiled_model.target:CompiledModelTarget",
)
