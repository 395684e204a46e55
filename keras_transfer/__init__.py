"""Transfer learning with Keras 3 for people who end on an edge device."""

__version__ = "0.1.0"
