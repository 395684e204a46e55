"""TFLite Micro in a process of its own, which it may end: answers to images, and the memory it took.

    python micro_process.py MODEL PIXELS.npy ANSWERS.npy ARENA

Pixels are ``(N, ...)`` in the model's own number type; so are the answers. The memory is printed on standard error by
TFLite Micro itself. Needs NumPy and tflite-micro, nothing of keras_transfer.
"""

from __future__ import annotations

import sys

import numpy as np


def main() -> int:
    """Ask the model about every image."""
    from tflite_micro.python.tflite_micro import runtime

    model, pixels, answers, arena = sys.argv[1:]
    interpreter = runtime.Interpreter.from_file(model, arena_size=int(arena))
    given = []
    for image in np.load(pixels):
        interpreter.set_input(image[np.newaxis], 0)
        interpreter.invoke()
        given.append(np.array(interpreter.get_output(0)))
    np.save(answers, np.concatenate(given))
    interpreter.print_allocations()
    return 0


if __name__ == "__main__":
    sys.exit(main())
