"""The core's own check around every training: what a task says is frozen is bit-identical afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_transfer.backbones.blocks import blocks, leaf_layers
from keras_transfer.errors import PluginError
from keras_transfer.hashing import sha256_of_parts
from keras_transfer.settings import FitSettings
from keras_transfer.tasks.returned import BLAME


def layer_hashes(backbone: keras.Model) -> dict[str, str]:
    """SHA-256 of the weights and statistics of every layer that has some, by its name."""
    return {
        layer.name: sha256_of_parts(
            np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).tobytes() for variable in layer.weights
        )
        for layer in leaf_layers(backbone)
        if layer.weights
    }


def require_frozen(
    who: str,
    fit: FitSettings,
    notes: Mapping[str, Any],
    backbone: keras.Model,
    before: Mapping[str, str],
) -> None:
    """Raise ``PluginError`` where a training changed a layer of the backbone that it leaves as it is.

    That is every layer with ``--strategy probe``; else those of the blocks that every freeze plan noted (``gradient``'s
    ``phases``, or ``plan``) calls frozen. Statistics that ``--batchnorm adapt`` re-estimates may change.

    Args:
        who: begins the message: the task and its package.
        fit: what was asked for. notes: of the training.
        backbone: after it. before: :func:`layer_hashes` of it, before.
    """
    allowed = _allowed(fit, notes, backbone)
    if fit.batchnorm == "adapt":
        norms = (one for one in leaf_layers(backbone) if isinstance(one, keras.layers.BatchNormalization))
        allowed |= {layer.name for layer in norms}
    now = layer_hashes(backbone)
    changed = [name for name in before if now.get(name) != before[name] and name not in allowed]
    if changed:
        asked = (
            "--strategy probe, which leaves it as it is" if fit.strategy == "probe" else "its own freeze plan"
        )
        raise PluginError(
            f"{who} changed the backbone under {asked}: {len(changed)} layers, the first {changed[0]!r}. {BLAME}"
        )


def _allowed(fit: FitSettings, notes: Mapping[str, Any], backbone: keras.Model) -> set[str]:
    """Names of the layers that may change."""
    if fit.strategy == "probe":
        return set()
    everything = {layer.name for layer in leaf_layers(backbone)}
    plans = (notes.get("gradient") or {}).get("phases") or [notes.get("plan")]
    if not all(isinstance(plan, Mapping) and plan.get("blocks") for plan in plans):
        return everything  # nothing is said
    trained = {
        row["block"]
        for plan in plans
        for row in plan["blocks"]
        if row["trainable"] or row["batchnorm"] == "train"
    }
    known = {row["block"] for plan in plans for row in plan["blocks"]}
    return {
        name for block, names in blocks(backbone) for name in names if block in trained or block not in known
    }
