"""The promises of a package that gives weights for a backbone, one function each."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from importlib import metadata
from pathlib import Path

import keras
import numpy as np

from keras_transfer.backbone_specs import BACKBONES, WEIGHTS, get_spec
from keras_transfer.backbones import WeightsReport, load_weights
from keras_transfer.backbones.building import build, input_size
from keras_transfer.catalog import BackboneSpec
from keras_transfer.discovery import Entry, entries
from keras_transfer.features import model_hash
from keras_transfer.testing.backbones import BackboneTrial, features_tell_images_apart
from keras_transfer.testing.promises import no_network, require


class WeightsTrial:
    """Weights and what their checks share.

    Args:
        name: of the backbone they are for. folder: not used.

    Raises:
        UsageError, PluginError: there is no such backbone, or it is broken.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.spec: BackboneSpec = get_spec(name)
        self.entry: Entry = next(entry for entry in entries(WEIGHTS) if entry.name == name)

    def load(self) -> tuple[keras.Model, WeightsReport]:
        """The network with the weights, and what was said of them; no network may be reached for."""
        model = build(self.spec, input_size(self.spec, None))
        with no_network():
            report = load_weights(model, self.spec, "imagenet", offline=True)
        assert report is not None  # only weights="none" has none
        return model, report

    @cached_property
    def loaded(self) -> tuple[keras.Model, WeightsReport]:
        """The first time."""
        return self.load()


def weights_fill_the_network(trial: WeightsTrial) -> None:
    """The package gives a file that is there, or arrays by layer; every layer gets its own, and nothing is left."""
    report = trial.loaded[1]
    require(
        not (report.missing or report.mismatched or report.unused),
        f"the weights do not fit the backbone {trial.name!r}: {report}.",
    )


def weights_are_the_same_each_time(trial: WeightsTrial) -> None:
    """Asked twice, the package gives the same numbers: features are cached, and runs repeated, under their hash."""
    first, second = (model_hash(model) for model in (trial.loaded[0], trial.load()[0]))
    require(first == second, "asked twice, the package gave different weights.")


def weights_tell_images_apart(trial: WeightsTrial) -> None:
    """With the weights two photographs give two different feature maps of finite numbers, and not those of before."""
    trained = BackboneTrial(trial.name, trial.folder)
    trained.network = trial.loaded[0]  # takes the place of the cached property
    features_tell_images_apart(trained)
    same = [
        layer.name
        for layer, fresh in zip(trial.loaded[0].layers, trained.untrained.layers, strict=True)
        for one, other in zip(layer.trainable_weights, fresh.trainable_weights, strict=True)
        if len(one.shape) > 1 and np.array_equal(np.asarray(one), np.asarray(other))
    ]
    require(not same, f"the weights of {', '.join(same)} are those of a network that was never trained.")


def licence_is_told(trial: WeightsTrial) -> None:
    """The weights' licence is told: by the row of a backbone from a package, or by the metadata of their package."""
    rows = [entry for entry in entries(BACKBONES) if entry.name == trial.name]
    if rows:
        require(
            trial.spec.pretrained,
            f"the row of the backbone {trial.name!r} says that there are no weights: its licence must be theirs.",
        )
        return
    facts = metadata.metadata(trial.entry.distribution)
    fields = ("License-Expression", "License", "Classifier")
    lines = [line for field in fields for line in facts.get_all(field) or []]
    told = [line for line in lines if line.startswith("License ::") or " :: " not in line]
    require(
        any(told),
        f"the package {trial.entry.distribution} states no licence: give `license` in its pyproject.toml.",
    )


WEIGHTS_CHECKS: dict[str, Callable[[WeightsTrial], None]] = {
    check.__name__: check
    for check in (
        weights_fill_the_network,
        weights_are_the_same_each_time,
        weights_tell_images_apart,
        licence_is_told,
    )
}
"""By name, in the order they run."""
