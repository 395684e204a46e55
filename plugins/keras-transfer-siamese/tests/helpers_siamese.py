"""What the plugin's tests call: a small network, and a bundle's script."""

from __future__ import annotations

import os
import subprocess
import sys

import keras


def small_network(seed: int = 0, size: int = 48):
    """A network of random weights whose embeddings (8,) depend on the image, and which converts in a second."""
    keras.utils.set_random_seed(seed)
    pixels = keras.Input((size, size, 3))
    found = keras.layers.Rescaling(1 / 127.5, -1)(pixels)
    for filters in (8, 16):
        found = keras.layers.Conv2D(
            filters, 3, 2, activation="relu", kernel_initializer="he_normal", bias_initializer="random_normal"
        )(found)
    found = keras.layers.GlobalAveragePooling2D()(found)
    found = keras.layers.UnitNormalization()(keras.layers.Dense(8)(found))
    return keras.Model(pixels, found, name="small")


def run_script(folder, *arguments, code=0, script="recognise.py"):
    """Run the bundle's script; neither TensorFlow nor Keras nor this package can be imported."""
    start = (
        "import os, runpy, sys\n"
        "for name in ('tensorflow', 'keras', 'keras_transfer'): sys.modules[name] = None\n"
        "sys.argv = sys.argv[1:]; sys.path.insert(0, os.path.dirname(sys.argv[0]))\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", start, str(folder / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": "", "PYTHONIOENCODING": "utf-8"},
        timeout=120,
    )
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr
