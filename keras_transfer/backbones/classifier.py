"""A network as its authors trained it: with the classifier of the 1,000 ImageNet classes, and their names."""

from __future__ import annotations

import os
from functools import cache
from importlib import resources

import keras

from ..backbone_specs import get_spec
from ..errors import WeightsError
from .building import TOP, build, input_size
from .efficientnet_lite import LITE, pip_classifier
from .weight_files import LayerWeights
from .weights import load_weights

CLASSES = 1000
NAMES = "imagenet_classes.tsv"


@cache
def class_names() -> tuple[str, ...]:
    """The 1,000 names in the order of the outputs. The file in this package says where they are from."""
    text = resources.files(__package__).joinpath(NAMES).read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    return tuple(name for _, name in rows)


def load_classifier(
    name: str,
    weights: str | os.PathLike[str] = "auto",
    image_size: int | tuple[int, int] | None = None,
    *,
    offline: bool | None = None,
) -> keras.Model:
    """A network of the catalog as it was published: pixels ``(B, H, W, 3)`` in [0, 255] to probabilities ``(B, 1000)``.

    The outputs are in the order of :func:`class_names`; the scaling to the network's range is inside.

    Args:
        name: of a backbone.
        weights: ``"auto"`` or ``"imagenet"`` (from an installed package, Keras's cache, or a download), or the path of
            a ``.weights.h5``, ``.keras`` or ``.h5`` file of the whole classifier.
        image_size: a side or (height, width); the size it was trained at by default.
        offline: True forbids downloads; None asks ``KERAS_TRANSFER_OFFLINE``.

    Raises:
        UsageError: an unknown name, a size below the network's minimum, a missing file.
        OfflineError: a download would be needed and is forbidden; it names the file and the folder to put it in.
        WeightsError: unusable weights, or weights without the classifier of 1,000 classes.
    """
    spec = get_spec(name)
    if weights == "none":
        raise WeightsError(
            "A network with random weights knows nothing of the 1,000 classes. Use weights='imagenet' or a file."
        )
    model = build(spec, input_size(spec, image_size), top=True)
    report = load_weights(model, spec, weights, offline, top=True, top_layers=top_of(spec.name, weights))
    assert report is not None  # only weights="none" gives no report
    if report.missing or report.mismatched:
        lacking = ", ".join((*report.missing, *report.mismatched)[:3])
        raise WeightsError(
            f"{report.source} does not hold {spec.name} with its classifier of {CLASSES} classes: {lacking} is missing "
            "or has another shape. Give the file of the whole network (with top)."
        )
    return model


def top_of(name: str, weights: str | os.PathLike[str] = "auto") -> list[LayerWeights]:
    """The classifier's weights that a package ships beside the backbone's; none where a file has both."""
    if name not in LITE or weights not in ("auto", "imagenet"):
        return []
    return [LayerWeights(TOP, "", tuple(pip_classifier(name)))]
