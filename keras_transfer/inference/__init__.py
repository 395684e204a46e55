"""Models that can be asked, whatever runs them: pixels in, outputs out."""

from keras_transfer.inference.keras_runner import KerasRunner
from keras_transfer.inference.litert_runner import LiteRTRunner, ParallelLiteRTRunner
from keras_transfer.inference.loading import load_runner
from keras_transfer.inference.outputs import outputs, over, stream
from keras_transfer.inference.runner import Runner
from keras_transfer.inference.saved_model_runner import SavedModelRunner

__all__ = [
    "KerasRunner",
    "LiteRTRunner",
    "ParallelLiteRTRunner",
    "Runner",
    "SavedModelRunner",
    "load_runner",
    "outputs",
    "over",
    "stream",
]
