"""Semantic segmentation for ``keras_transfer``: a class for every pixel.

Nothing heavy is imported here: take what you need from the modules.
"""
