"""Where a backbone's weights come from.

In this order: a file the user names, an installed pip package that provides them (entry-point group
``keras_transfer.weights``), Keras's own cache of downloads, a download through Keras.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import paths, progress
from ..backbone_specs import WEIGHTS
from ..catalog import BackboneSpec
from ..discovery import entries
from ..errors import KerasTransferError, OfflineError, UsageError, WeightsError
from .building import constructor_of
from .efficientnet import adapt_statistics
from .efficientnet_lite import LITE, pip_weights
from .matching import WeightsReport, assign, weighted_layers
from .weight_files import LayerWeights, read_weights

_log = logging.getLogger("keras_transfer")

Provider = Callable[[], Path | str | Mapping[str, Sequence[np.ndarray]]]

BUILT_IN_PROVIDERS: dict[str, tuple[str, Provider]] = {
    name: (f"the package {lite.distribution}", partial(pip_weights, name)) for name, lite in LITE.items()
}
"""Backbone -> where its weights come from, and what gives them."""


def load_weights(
    model: Any,
    spec: BackboneSpec,
    weights: str | os.PathLike[str] = "auto",
    offline: bool | None = None,
    *,
    top: bool = False,
    top_layers: Sequence[LayerWeights] = (),
) -> WeightsReport | None:
    """Fill a model that :func:`~keras_transfer.backbones.building.build` made.

    ``weights``: ``"auto"`` or ``"imagenet"`` (ImageNet weights, from where they can be had), ``"none"`` (keep the
    random ones; returns None), or the path of a ``.weights.h5``, ``.keras`` or ``.h5`` file of this backbone or of a
    classifier built on it. ``offline``: forbid downloads; default the ``KERAS_TRANSFER_OFFLINE`` variable.
    ``top``: the model has its classifier, and the ImageNet file with it is wanted; ``top_layers`` are the classifier's
    weights where a package ships them beside the backbone's.

    Raises :class:`UsageError` for a path that does not exist, :class:`OfflineError` when a download would be needed and
    is forbidden, :class:`WeightsError` when a source is damaged or made for another architecture.
    """
    if weights == "none":
        return None
    if weights in ("auto", "imagenet"):
        forbidden = paths.offline() if offline is None else offline
        source, layers = _imagenet(spec, forbidden, top)
        layers = [*layers, *top_layers]
    else:
        source, layers = str(weights), read_weights(_existing(weights, spec))
    report = assign(model, source, layers)
    if spec.family == "efficientnet" and adapt_statistics(model):
        _log.info("%s: %s was made without ImageNet normalization; kept so", spec.name, source)
    return report


def keras_cache() -> Path:
    """Where Keras keeps downloaded weights: ``models`` in ``KERAS_HOME`` or ``~/.keras``."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"


def _existing(weights: str | os.PathLike[str], spec: BackboneSpec) -> Path:
    path = Path(weights)
    if path.is_file():
        return path
    raise UsageError(
        f"weights={str(weights)!r} for {spec.name} is neither auto, imagenet, none nor an existing file. "
        "Expected the path of a .weights.h5, .keras or .h5 file."
    )


def weights_file(spec: BackboneSpec, top: bool = False) -> str | None:
    """The name of the ImageNet weights in Keras's cache, without the classifier or with it."""
    if spec.weights_file is None or not top:
        return spec.weights_file
    return re.sub(r"_no_?top(_v2)?(?=\.h5$)", "", spec.weights_file)


def _imagenet(spec: BackboneSpec, offline: bool, top: bool) -> tuple[str, list[LayerWeights]]:
    provider = find_provider(spec.name)
    if provider is not None:
        return _provided(spec, *provider)
    name = weights_file(spec, top)
    if name is None:
        raise WeightsError(
            f"No installed package provides ImageNet weights for {spec.name}, and there is no place to download them "
            "from. Train it from random weights (--strategy scratch, or weights none), give a weights file, or install "
            "a package that provides them."
        )
    cached = keras_cache() / name
    if cached.is_file():
        return str(cached), _through_keras(spec, str(cached), top)
    if offline:
        instead = "" if top else 'use weights="none", '
        raise OfflineError(
            f"The ImageNet weights of {spec.name}{' with its classifier' if top else ''} are not on this machine and "
            f"downloads are forbidden. Put the file {name} into {keras_cache()}, give a weights file, {instead}"
            "or allow downloads (no --offline, no KERAS_TRANSFER_OFFLINE)."
        )
    return name, _through_keras(spec, "imagenet", top)


def _through_keras(spec: BackboneSpec, weights: str, top: bool) -> list[LayerWeights]:
    """Let Keras's constructor load its own file (or download it) and take the arrays over.

    At the default size, since MobileNet's file depends on it while its weights fit every size.
    """
    size = (spec.default_size, spec.default_size, 3)
    bar = contextlib.nullcontext() if progress.enabled() else contextlib.redirect_stdout(io.StringIO())
    try:
        with bar:
            network = constructor_of(spec)(include_top=top, weights=weights, input_shape=size)
    except Exception as error:  # Keras raises a bare Exception for a failed download
        if weights == "imagenet":
            message = (
                f"Downloading the ImageNet weights of {spec.name} failed: {error}. "
                f"Try again, or put the file {weights_file(spec, top)} into {keras_cache()}."
            )
        else:
            kind = "ImageNet file with the classifier" if top else "no-top ImageNet file"
            message = (
                f"{weights} is damaged or not the {kind} of {spec.name}: {error}. "
                "Delete it, so that it is downloaded again, or replace it."
            )
        raise WeightsError(message) from error
    return [
        LayerWeights(name, "", tuple(np.asarray(w) for w in layer.get_weights()))
        for name, layer in weighted_layers(network).items()
    ]


def find_provider(name: str) -> tuple[str, Provider] | None:
    """The pip package that ships weights for a backbone: its description and its function, or None.

    A provider takes no arguments and returns the path of a weights file, or a mapping from layer names to arrays in the
    order of ``layer.weights``. Only the one asked for is imported. Raises :class:`WeightsError` when it is broken, or
    when two packages claim the same backbone.
    """
    found = [entry for entry in entries(WEIGHTS) if entry.name == name]
    if len(found) > 1:
        packages = " and ".join(sorted(entry.distribution for entry in found))
        raise WeightsError(f"{packages} both provide weights for {name}. Uninstall one of them.")
    if found:
        package = found[0].distribution
        try:
            return f"the package {package}", found[0].load()
        except (Exception, SystemExit) as error:  # foreign code
            raise WeightsError(
                f"The package {package}, which provides weights for {name}, is broken: {error!r}. "
                "Repair or uninstall it."
            ) from error
    return BUILT_IN_PROVIDERS.get(name)


def _provided(spec: BackboneSpec, source: str, provider: Provider) -> tuple[str, list[LayerWeights]]:
    try:
        given = provider()
    except KerasTransferError:
        raise
    except (Exception, SystemExit) as error:  # foreign code
        raise WeightsError(
            f"{source}, which provides weights for {spec.name}, failed: {error!r}. Repair or uninstall it."
        ) from error
    if isinstance(given, Mapping):
        return source, [
            LayerWeights(name, "", tuple(map(np.asarray, arrays))) for name, arrays in given.items()
        ]
    if not isinstance(given, (str, os.PathLike)):
        raise WeightsError(
            f"{source}, which provides weights for {spec.name}, gave a {type(given).__name__}; the path of a weights "
            "file or a mapping from layer names to arrays is expected. Tell its author."
        )
    if not Path(given).is_file():
        raise WeightsError(
            f"{source}, which provides weights for {spec.name}, names the file {given}, which is not there. Install it "
            "again."
        )
    return f"{source} ({given})", read_weights(Path(given))
