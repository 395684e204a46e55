"""Names in a bundle's folder. Facts only."""

BUNDLE = "bundle.json"
PARITY = "parity.json"
CARD = "README.md"
LABELS = "labels.txt"
GOLDEN = "golden"
EXPECTED = "golden/golden.json"
SCRIPT = "classify.py"
CLIENTS = "clients"
PAGE = "clients/web/index.html"
KERAS = "model.keras"
SAVED_MODEL = "saved_model"
ALL_INTEGER = "all-integer"
"""The precision of int8 in which no number is a float: first layers, head and edges, too."""
TFLITE = {
    "float32": "model.tflite",
    "float16": "model_float16.tflite",
    "dynamic": "model_dynamic.tflite",
    "int8": "model_int8.tflite",
    "int16x8": "model_int16x8.tflite",
    ALL_INTEGER: "model_all_integer.tflite",
}
TARGETS = "targets"
"""The folder of what targets made, and the list of them in ``bundle.json``."""
CARRIED = "carried"
"""In ``bundle.json``: names of files that were put into the bundle afterwards."""
ARTEFACTS = frozenset({KERAS, f"{SAVED_MODEL}/", *TFLITE.values()})
"""What an export makes. Nothing else in a bundle is opened as a model."""
OURS = frozenset(
    {BUNDLE, PARITY, CARD, LABELS, GOLDEN, SCRIPT, CLIENTS, KERAS, SAVED_MODEL, TARGETS, *TFLITE.values()}
)
FREE_BATCH = b"KERAS_TRANSFER_FREE_BATCH"
"""The metadata entry of a ``.tflite`` whose shapes say a batch of one, and which may be resized to any."""
