"""Generative adversarial networks for ``keras_transfer``: images made from noise, and how good they are.

Nothing heavy is imported here: take what you need from the modules.
"""
