"""Learn to compare images, then recognise what was seen once: a task and a verb for keras-transfer."""

__version__ = "0.1.0"
