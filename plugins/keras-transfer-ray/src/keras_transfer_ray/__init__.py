"""Features, predictions and checks of many images, on the machines of a Ray cluster."""

__version__ = "0.1.0"
