"""The verbs of the core, in the order people use them, with their help lines. Facts only."""

VERBS = {
    "check": "Find wrong labels, copies, leaks and bad images in data.",
    "train": "Train a classifier on a folder of images.",
    "evaluate": "Measure a model on images.",
    "compare": "Compare pretrained networks on your images.",
    "replay": "Repeat a run and compare.",
    "predict": "Ask a model about images.",
    "explain": "Show what a model looks at in images.",
    "similar": "Find the images that look most alike.",
    "export": "Export a run to a bundle: Keras, SavedModel and TFLite, with proof.",
    "inspect": "Look into a .tflite: what it holds, and which runtimes take it.",
    "verify": "Check a bundle: hashes, golden images, your own images.",
    "benchmark": "Time every artefact of a bundle.",
    "doctor": "Find the layers that int8 hurts, and what keeping them in float gives.",
    "features": "Save the backbone's features of images.",
    "backbones": "List the networks.",
    "describe": "Describe a network: output, receptive field, parameters and cost of each block.",
    "targets": "List the runtimes that an export can be made for.",
    "plugins": "List the installed plugins, or check one.",
    "cache": "Look at, shrink or clear the cache.",
    "demo": "Run the whole workflow on real solar cells.",
}
