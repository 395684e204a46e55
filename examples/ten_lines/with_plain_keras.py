"""The same with Keras and TensorFlow alone, as Keras's guide to transfer learning does it.

python examples/ten_lines/with_plain_keras.py PHOTOS OUTPUT

PHOTOS holds train/ and test/, a folder per class each.
"""

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

photos, output = Path(sys.argv[1]), Path(sys.argv[2])
keras.utils.set_random_seed(0)


def read(split, shuffle):
    return keras.utils.image_dataset_from_directory(
        photos / split, image_size=(224, 224), batch_size=32, shuffle=shuffle, seed=0, verbose=False
    )


train, test = read("train", True), read("test", False)
classes = train.class_names
base = keras.applications.MobileNet(include_top=False, weights="imagenet", input_shape=(224, 224, 3))
base.trainable = False

image = keras.Input((224, 224, 3))
x = keras.layers.Rescaling(1 / 127.5, offset=-1)(image)  # what MobileNet was trained on
x = base(x, training=False)  # its batch normalization stays as it is
x = keras.layers.GlobalAveragePooling2D()(x)
x = keras.layers.Dropout(0.2)(x)
model = keras.Model(image, keras.layers.Dense(len(classes), activation="softmax")(x))
model.compile(
    optimizer=keras.optimizers.Adam(1e-3), loss="sparse_categorical_crossentropy", metrics=["accuracy"]
)
model.fit(train.prefetch(1), epochs=10, verbose=0)

output.mkdir(parents=True, exist_ok=True)
converted = tf.lite.TFLiteConverter.from_keras_model(model).convert()
(output / "model.tflite").write_bytes(converted)
(output / "labels.txt").write_text("\n".join(classes) + "\n")

interpreter = tf.lite.Interpreter(model_content=converted)
interpreter.allocate_tensors()
entry, answer = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
right = []
for pixels, labels in test.unbatch().batch(1):
    interpreter.set_tensor(entry, pixels.numpy().astype(np.float32))
    interpreter.invoke()
    right.append(int(interpreter.get_tensor(answer)[0].argmax()) == int(labels[0]))
print(f"accuracy {np.mean(right):.3f}")
