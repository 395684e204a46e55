"""Pretrained networks as plain Keras models: from pixels to a feature map, in one call.

>>> from keras_transfer.backbones import load_backbone
>>> load_backbone("mobilenet_v2", weights="none", image_size=96).output.shape
(None, 3, 3, 1280)
"""

from __future__ import annotations

import os
from pathlib import Path

import keras

from ..backbone_specs import get_spec
from ..catalog import CATALOG, OWN, BackboneSpec
from ..errors import UsageError, unknown_name
from .blocks import blocks
from .building import build, input_size, require_facts
from .classic import LocalResponseNormalization  # noqa: F401 - a saved model with it can be loaded from here on
from .classifier import class_names, load_classifier
from .matching import WeightsReport
from .own import load_own
from .weights import load_weights

__all__ = [
    "WeightsReport",
    "blocks",
    "class_names",
    "load_backbone",
    "load_classifier",
    "load_weights",
    "pyramid_model",
]


def load_backbone(
    name: str,
    weights: str | os.PathLike[str] = "auto",
    image_size: int | tuple[int, int] | None = None,
    *,
    offline: bool | None = None,
    pooling: str | None = None,
    cut: str | None = None,
    input_mode: str | None = None,
) -> keras.Model:
    """A network of the catalog without its classifier, as one flat Functional model of Keras's own layers.

    Input ``image``: float32 ``(B, H, W, 3)``, RGB in [0, 255]; the scaling to the network's range is inside.
    Output: the last feature map ``(B, h, w, feature_dim)``, or with ``pooling="avg"`` features ``(B, feature_dim)``.
    Architecture and layer names are the same whatever the weights, and every layer is trainable.

    ``weights``: ``"auto"`` or ``"imagenet"`` (the same: ImageNet weights from an installed package, Keras's cache or a
    download), ``"none"`` (random), or the path of a ``.weights.h5``, ``.keras`` or ``.h5`` file.
    ``image_size``: a side or ``(height, width)`` in pixels; None is the catalog's default.
    ``offline=True`` forbids downloads; None asks ``KERAS_TRANSFER_OFFLINE``.

    ``path:FILE`` instead of a name is a classifier of your own (``.keras``, ``.h5``, SavedModel) with its weights, its
    head dropped: ``cut`` and ``input_mode`` are as for :func:`keras_transfer.backbones.own.load_own`.

    Raises :class:`UsageError` for an unknown name, a size below the network's minimum, a missing file;
    :class:`WeightsError` for unusable weights; :class:`OfflineError` when a download would be needed and is forbidden.
    """
    if pooling not in (None, "avg"):
        raise unknown_name("pooling", str(pooling), ["avg"])
    if name.startswith(OWN):
        model = _own(name, weights, image_size, cut, input_mode)
    else:
        spec = get_spec(name)
        if cut is not None or input_mode is not None:
            raise UsageError(
                f"cut and input_mode are for a model of your own (path:FILE); {spec.name} has its place to end and its "
                "scaling in the catalog."
            )
        model = build(spec, input_size(spec, image_size))
        if spec.name not in CATALOG:
            require_facts(model, spec)
        load_weights(model, spec, weights, offline)
    if pooling is None:
        return model
    features = keras.layers.GlobalAveragePooling2D(name="avg_pool")(model.output)
    return keras.Model(model.input, features, name=model.name)


def pyramid_model(backbone: keras.Model, spec: BackboneSpec) -> keras.Model:
    """The same network (shared weights) with its feature maps as outputs, finest first.

    ``{"P2": (B, H/4, W/4, c2), "P3": H/8, "P4": H/16, "P5": H/32}``; sizes are rounded, and a few pixels smaller in
    networks with unpadded convolutions (see :mod:`keras_transfer.catalog`).
    Raises :class:`UsageError` when ``backbone`` is not the network of ``spec``.
    """
    tensors = {operation.name: operation.output for operation in backbone.operations}
    missing = [layer for layer in spec.pyramid if layer not in tensors]
    if missing:
        raise UsageError(
            f"The model {backbone.name!r} has no layer {missing[0]!r}, a pyramid level of {spec.name}. "
            f"Expected the model of load_backbone({spec.name!r})."
        )
    outputs = {f"P{level}": tensors[layer] for level, layer in enumerate(spec.pyramid, 2)}
    return keras.Model(backbone.input, outputs, name=f"{backbone.name}_pyramid")


def _own(
    name: str,
    weights: str | os.PathLike[str],
    image_size: int | tuple[int, int] | None,
    cut: str | None,
    input_mode: str | None,
) -> keras.Model:
    if weights not in ("auto", "imagenet", "none"):
        raise UsageError(f"weights={str(weights)!r} was given with {name}, which has its own. Leave it out.")
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    path = Path(name.removeprefix(OWN)).expanduser()
    return load_own(path, cut=cut, input_mode=input_mode, image_size=size, random=weights == "none")
