"""The promises of a backbone that a package adds to the catalog, one function each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import keras
import numpy as np
from sklearn.datasets import load_sample_image

from keras_transfer.backbone_specs import BACKBONES, get_spec
from keras_transfer.backbones import blocks, load_backbone, pyramid_model
from keras_transfer.backbones.blocks import leaf_layers
from keras_transfer.backbones.building import build, require_facts
from keras_transfer.backbones.own import scales_itself
from keras_transfer.backbones.weights import find_provider
from keras_transfer.catalog import BackboneSpec
from keras_transfer.discovery import entries
from keras_transfer.errors import UsageError, WeightsError
from keras_transfer.freeze_plan import FreezePlan
from keras_transfer.heads import add_head
from keras_transfer.litert import LiteRTModel, convert
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.testing.promises import Broken, answers_of, no_network, require, require_light

STRIDES = (4, 8, 16, 32)
NEARLY = 1.5
"""How far the side of a pyramid level may be from what its stride says, which levels differ by 2: convolutions without
padding make it shorter, by a pixel more where it is small."""
ALIKE = 1e-4
"""Share of the features' scale below which two maps are the same."""


class BackboneTrial:
    """A backbone and what its checks share.

    Args:
        name: of the backbone. folder: files are made in it.

    Raises:
        UsageError, PluginError: there is none of this name, or it is broken.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.spec: BackboneSpec = get_spec(name)

    @cached_property
    def untrained(self) -> keras.Model:
        """With random weights, at its default size."""
        with no_network():
            return load_backbone(self.name, weights="none")

    @cached_property
    def network(self) -> keras.Model:
        """With its weights where they are on this machine; else with random ones that tell images apart."""
        try:
            with no_network():
                return load_backbone(self.name, offline=True)
        except WeightsError:
            shake(self.untrained)
            return self.untrained

    @cached_property
    def pixels(self) -> np.ndarray:
        """Two photographs, float32 ``(2, H, W, 3)``."""
        contract = Preprocessing(size=tuple(self.network.input_shape[1:3]))
        photos = (load_sample_image(f"{name}.jpg") for name in ("china", "flower"))
        return np.stack([contract.apply(photo) for photo in photos]).astype(np.float32)

    @cached_property
    def features(self) -> np.ndarray:
        """The maps of the photographs ``(2, h, w, D)``."""
        return np.asarray(self.network(self.pixels, training=False))

    @property
    def scale(self) -> float:
        """The largest of their numbers."""
        return max(float(np.abs(self.features).max()), 1e-12)


def shake(model: keras.Model) -> None:
    """Give every batch normalization statistics and scales that are not those of a fresh layer.

    A fresh network gives nearly the same answer to every image, which would prove nothing.
    """
    rng = np.random.default_rng(0)
    drawn = {
        "gamma": (0.7, 1.3),
        "beta": (-0.2, 0.6),
        "moving_mean": (-0.3, 0.3),
        "moving_variance": (0.5, 1.5),
    }
    for layer in leaf_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            for name, limits in drawn.items():
                variable = getattr(layer, name, None)
                if variable is not None:
                    variable.assign(rng.uniform(*limits, variable.shape).astype(np.float32))


def row_is_light(trial: BackboneTrial) -> None:
    """Importing the row imports neither TensorFlow nor Keras nor NumPy: ``backbones`` lists it."""
    for entry in entries(BACKBONES):
        if entry.name == trial.name:
            require_light(entry.value, "put the constructor into another module, which the row names")


def row_is_true(trial: BackboneTrial) -> None:
    """What the row says is true of the network: features, parameters, levels, the default and the smallest size."""
    spec = trial.spec
    require(
        1 <= spec.min_size <= spec.default_size,
        f"its min_size is {spec.min_size} and its default_size {spec.default_size}; the smaller first is expected.",
    )
    for what, side in (("default_size", spec.default_size), ("min_size", spec.min_size)):
        try:
            model = build(spec, (side, side))
        except ValueError as error:
            raise Broken(
                f"it cannot be built at its {what} {side}: {' '.join(str(error).split())}"
            ) from error
        require_facts(model, spec)
        shape = tuple(model.output.shape)
        require(
            len(shape) == 4 and None not in shape[1:] and min(shape[1:3]) >= 1,
            f"at its {what} {side} it gives {shape}; a map (B, h, w, {spec.feature_dim}) is expected.",
        )
    for (level, tensor), stride in zip(
        pyramid_model(trial.untrained, spec).output.items(), STRIDES, strict=True
    ):
        side, exact = int(tensor.shape[1]), spec.default_size / stride
        require(
            exact / NEARLY - 1 <= side <= exact * NEARLY,
            f"the pyramid's {level}, {spec.pyramid[STRIDES.index(stride)]!r}, is {side} pixels wide for images of "
            f"{spec.default_size}; at stride {stride} about {exact:.0f} are expected.",
        )


def builds_alike_offline(trial: BackboneTrial) -> None:
    """Building reaches for no network, and gives layers of the same names and shapes each time."""

    def told(model: keras.Model) -> list[tuple[str, list[tuple[int, ...]]]]:
        return [(layer.name, [tuple(one.shape) for one in layer.weights]) for layer in model.layers]

    with no_network():
        again = load_backbone(trial.name, weights="none")
    different = [
        f"{one[0]} {one[1]} and {other[0]} {other[1]}"
        for one, other in zip(told(trial.untrained), told(again), strict=False)
        if one != other
    ]
    require(
        not different and len(trial.untrained.layers) == len(again.layers),
        f"two calls gave different layers, such as {next(iter(different), 'one more')}: weights are found by their "
        "names.",
    )


def pixels_are_scaled_once(trial: BackboneTrial) -> None:
    """Pixels are scaled once: as the row's ``input_mode`` says, or by the network itself where that is ``none``."""
    mode = trial.spec.input_mode
    found = scales_itself(trial.untrained if mode == "none" else build_raw(trial.spec))
    if mode == "none":
        require(found, "its input_mode is 'none', and nothing in the network scales the pixels.")
    else:
        require(
            not found,
            f"its input_mode is {mode!r}, and the network scales the pixels itself, too ({found}): they are scaled "
            "twice. Take that out, or say 'none'.",
        )


def build_raw(spec: BackboneSpec) -> keras.Model:
    """The network without the scaling that its row asks for."""
    return build(replace(spec, input_mode="none"), (spec.default_size, spec.default_size))


def features_tell_images_apart(trial: BackboneTrial) -> None:
    """Two photographs give two different feature maps of finite numbers."""
    require(np.isfinite(trial.features).all(), "its features of a photograph are not finite.")
    difference = float(np.abs(trial.features[0] - trial.features[1]).max())
    require(
        difference > ALIKE * trial.scale,
        f"two different photographs give the same features (they differ by {difference:.3g}).",
    )


def layers_can_be_frozen(trial: BackboneTrial) -> None:
    """Freezing finds blocks in the layers' names: a part can be trained, and is trained alone."""
    network = trial.untrained
    names = [layer.name for layer in leaf_layers(network)]
    twice = sorted({name for name in names if names.count(name) > 1})
    require(not twice, f"several layers are called {', '.join(twice)}; each needs a name of its own.")
    learning = {
        layer.name
        for layer in leaf_layers(network)
        if layer.trainable_weights and not isinstance(layer, keras.layers.BatchNormalization)
    }
    require(learning, "no layer has weights to train.")
    groups = [block for block, members in blocks(network) if learning.intersection(members)]
    require(
        len(groups) > 1 or len(learning) == 1,
        f"all its layers with weights are one block ({groups[0]}), so that only all of them can be trained: begin the "
        "names of a block's layers alike, and those of another one otherwise (block1_conv, block1_bn, block2_conv).",
    )
    model = add_head(network, 2)
    for rule in ["all"] if len(groups) == 1 else [f"from:{groups[-1]}", "all"]:
        try:
            plan = FreezePlan.for_model(model, rule)
        except UsageError as error:
            raise Broken(f"--unfreeze {rule} is not possible: {error}") from error
        plan.apply(model)
        trained = {layer.name for layer in leaf_layers(model) if layer.trainable_weights}
        planned = {name for name in plan.layers if model.get_layer(name).weights}
        require(
            trained == planned,
            f"--unfreeze {rule} plans to train {', '.join(sorted(planned))}, and what trains is "
            f"{', '.join(sorted(trained))}.",
        )


def weights_can_be_had(trial: BackboneTrial) -> None:
    """A row that states a licence has weights: a package gives them, or they are a file of Keras; others say so."""
    spec = trial.spec
    there = find_provider(spec.name) is not None or spec.weights_file is not None
    require(
        there or not spec.pretrained,
        f"its licence is {spec.licence!r}, and no package gives its weights (entry-point group "
        "keras_transfer.weights). Give them, or say licence=NO_WEIGHTS.",
    )


def converts_to_tflite(trial: BackboneTrial) -> None:
    """The float32 TFLite file answers like the Keras model, to a ten-thousandth of the features' scale."""
    answers = LiteRTModel(convert(trial.network)).predict(trial.pixels)
    difference = float(np.abs(answers - trial.features).max())
    require(
        difference <= ALIKE * trial.scale,
        f"float32 TFLite differs from Keras by {difference:.3g}; {ALIKE * trial.scale:.3g} is allowed.",
    )


def reloads_with_keras_alone(trial: BackboneTrial) -> None:
    """A saved network loads with Keras alone in a fresh process, without the package, and answers as it did."""
    model = trial.folder / "network.keras"
    trial.network.save(model)
    difference = float(np.abs(answers_of(model, trial.pixels, trial.folder) - trial.features).max())
    require(difference <= 1e-5 * trial.scale, f"in a fresh process its features differ by {difference:.3g}.")


BACKBONE_CHECKS: dict[str, Callable[[BackboneTrial], None]] = {
    check.__name__: check
    for check in (
        row_is_light,
        row_is_true,
        builds_alike_offline,
        pixels_are_scaled_once,
        features_tell_images_apart,
        layers_can_be_frozen,
        weights_can_be_had,
        converts_to_tflite,
        reloads_with_keras_alone,
    )
}
"""By name, in the order they run."""
