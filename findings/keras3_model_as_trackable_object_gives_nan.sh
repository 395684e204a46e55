#!/usr/bin/env bash
# tensorflow 2.21.0 with keras 3.15.1: TFLiteConverter.from_concrete_functions([function], model) converts without an
# error, and the file answers NaN.
#
# The second argument is documented as the object whose variables the function uses ("An AutoTrackable object"), and with
# Keras 2 one passed the model. A Keras 3 model is accepted, but its variables are not what TensorFlow tracks: the
# SavedModel that the converter writes on the way has none of them, and the constants of the file are not the weights.
# Without a second argument, or with a function whose variables were made constants before, the file is right.
#
# Seen:
#   the model            [[-0.2408 -0.1024]]
#   without an object    [[-0.2408 -0.1024]]
#   with the Keras model [[nan nan]]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tensorflow==2.21.0 keras==3.15.1 ai-edge-litert==2.3.0 numpy==2.4.6
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - 2>"$folder/log" <<'PY' || { tail -5 "$folder/log"; exit 1; }
import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

keras.utils.set_random_seed(0)
image = keras.Input((8, 8, 3))
x = keras.layers.Conv2D(4, 3)(image)
x = keras.layers.BatchNormalization()(x)
x = keras.layers.GlobalAveragePooling2D()(x)
model = keras.Model(image, keras.layers.Dense(2)(x))
spec = [tf.TensorSpec((1, 8, 8, 3), tf.float32)]
function = tf.function(lambda pixels: model(pixels, training=False), input_signature=spec).get_concrete_function()
pixels = np.random.default_rng(0).uniform(0, 1, (1, 8, 8, 3)).astype("float32")


def answer(*tracked):
    content = tf.lite.TFLiteConverter.from_concrete_functions([function], *tracked).convert()
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


np.set_printoptions(precision=4)
expected, plain, tracked = model(pixels).numpy(), answer(), answer(model)
print("the model           ", expected)
print("without an object   ", plain)
print("with the Keras model", tracked)
assert np.allclose(plain, expected, atol=1e-5), "changed: without an object the file no longer answers like the model"
assert not np.isfinite(tracked).any(), "changed: with the Keras model as the tracked object the file answers numbers"
PY
echo "as described"
