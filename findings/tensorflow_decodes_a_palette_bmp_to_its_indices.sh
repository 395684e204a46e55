#!/usr/bin/env bash
# tensorflow 2.21.0: tf.io.decode_bmp and tf.io.decode_image give the palette's indices of an 8-bit BMP as if they were
# grey values, without an error; with channels=3 each index stands in all three channels.
#
# A BMP of 8 bits a pixel always has a palette, and its pixels are places in it. A photo with 256 colours therefore comes
# out as a picture of numbers that have nothing to do with its colours (only a grey picture, whose palette counts up, is
# right). GIF and palette PNG are decoded through their palettes. A SavedModel that decodes files in its graph answers
# for another picture than the one that was sent.
#
# Seen (red, green, blue, red):
#   the picture              [[250, 10, 10], [10, 250, 10], [10, 10, 250], [250, 10, 10]]
#   decode_image             [[0], [1], [2], [0]]
#   decode_image, channels=3 [[0, 0, 0], [1, 1, 1], [2, 2, 2], [0, 0, 0]]
#   the same as a PNG        [[250, 10, 10], [10, 250, 10], [10, 10, 250], [250, 10, 10]]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tensorflow==2.21.0 pillow==12.3.0 numpy==2.4.6
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - 2>"$folder/log" <<'PY' || { tail -5 "$folder/log"; exit 1; }
import io

import numpy as np
import tensorflow as tf
from PIL import Image

colours = np.array([[250, 10, 10], [10, 250, 10], [10, 10, 250]], np.uint8)
indices = np.array([[0, 1, 2, 0]], np.uint8)
picture = Image.fromarray(indices, "P")
picture.putpalette(colours.tobytes())


def encoded(kind):
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


bmp, png = encoded("BMP"), encoded("PNG")
plain, three = (tf.io.decode_image(bmp, channels=channels).numpy()[0] for channels in (0, 3))
through_png = tf.io.decode_image(png, channels=3).numpy()[0]
with Image.open(io.BytesIO(bmp)) as opened:
    right = np.asarray(opened.convert("RGB"))[0]
print("the picture             ", right.tolist())
print("decode_image            ", plain.tolist())
print("decode_image, channels=3", three.tolist())
print("the same as a PNG       ", through_png.tolist())
assert np.array_equal(right, colours[indices[0]]) and np.array_equal(through_png, right), "changed: another picture"
assert plain[:, 0].tolist() == indices[0].tolist(), "changed: a palette BMP no longer comes out as its indices"
assert np.array_equal(three, np.repeat(indices[0][:, None], 3, axis=1)), "changed: with channels=3, too"
PY
echo "as described"
