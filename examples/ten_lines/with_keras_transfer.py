"""A classifier on a pretrained network, measured and on its way to a phone: with keras_transfer.

python examples/ten_lines/with_keras_transfer.py PHOTOS OUTPUT

PHOTOS holds train/ and test/, a folder per class each.
"""

import sys

from keras_transfer import evaluate, export_run, train

photos, output = sys.argv[1:3]
run = train(photos, f"{output}/run", backbone="mobilenet", image_size=224, strategy="probe")
export_run(run, f"{output}/edge", formats=("tflite",), precisions=("float32",))
print(f"accuracy {evaluate(f'{output}/edge/model.tflite', photos, split='test')['accuracy']:.3f}")
