"""Frozen batch normalization is folded into the convolution before it while a network trains, which costs less.

A frozen normalization multiplies each channel by a constant and adds another. Done to the kernel instead of to the map,
that is the same function with the same gradients, and a pass over every map is saved on the way up and on the way down
(Jacob et al. 2018, arXiv:1712.05877, section 3.2, fold so for quantization).
``benchmarks/folding.py`` measures what it gains.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


class FoldedConvolution(keras.layers.Layer):
    """A convolution and the frozen batch normalization after it, as one convolution.

    It owns nothing: kernel, bias and the constants are those of the two layers, read at every call.

    Args:
        convolution: a built Conv2D or DepthwiseConv2D without activation, channels last.
        normalization: a built BatchNormalization in inference mode, over the channels.
    """

    def __init__(
        self, convolution: keras.layers.Layer, normalization: keras.layers.BatchNormalization, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.convolution, self.normalization = convolution, normalization
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Map ``(B, H, W, C)`` to the normalized map ``(B, h, w, D)``."""
        convolution, normalization = self.convolution, self.normalization
        scale = tf.math.rsqrt(normalization.moving_variance + normalization.epsilon)
        if normalization.scale:
            scale = scale * normalization.gamma
        shift = -normalization.moving_mean * scale
        if normalization.center:
            shift = shift + normalization.beta
        if convolution.use_bias:
            shift = shift + convolution.bias * scale
        if isinstance(convolution, keras.layers.DepthwiseConv2D):
            kernel = convolution.kernel * tf.reshape(scale, convolution.kernel.shape[2:])
            outputs = keras.ops.depthwise_conv(
                inputs,
                kernel,
                strides=convolution.strides,
                padding=convolution.padding,
                dilation_rate=convolution.dilation_rate,
            )
        else:
            outputs = convolution.convolution_op(inputs, convolution.kernel * scale)
        return tf.nn.bias_add(outputs, shift)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """As the convolution's."""
        return self.convolution.compute_output_shape(input_shape)


def fold_frozen_norms(network: keras.Model) -> keras.Model:
    """The same network, with every frozen batch normalization that follows a convolution folded into it.

    Args:
        network: a Functional model whose ``trainable`` flags are set. It stays as it is; a normalization is folded as
            the flags are now. What is inside nested models stays there as it is.

    Returns:
        A model that shares all layers and variables: training it trains ``network``, with the same gradients up to
        rounding. The network itself when there is nothing to fold.
    """
    if not any(isinstance(layer, keras.layers.BatchNormalization) for layer in network.layers):
        return network
    folded: dict[tuple[str, str], FoldedConvolution] = {}  # a pair that is used twice stays one layer

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        before = _convolution_before(layer, args[0]) if args else None
        if before is None:
            return layer(*args, **kwargs)
        convolution, inputs = before
        pair = (convolution.name, layer.name)
        if pair not in folded:
            folded[pair] = FoldedConvolution(convolution, layer, name="_".join((*pair, "folded")))
        return folded[pair](inputs)

    twin = keras.models.clone_model(network, clone_function=lambda layer: layer, call_function=call)
    return twin if folded else network


def _convolution_before(layer: Any, tensor: Any) -> tuple[keras.layers.Layer, Any] | None:
    """The convolution that a frozen normalization can be folded into, and what it reads; None where there is none."""
    # Exactly these classes: one derived from them may compute something else.
    if type(layer) is not keras.layers.BatchNormalization or layer.trainable:
        return None
    history = tensor._keras_history
    convolution = history.operation
    if type(convolution) not in _CONVOLUTIONS or convolution.data_format != "channels_last":
        return None
    linear = convolution.activation is keras.activations.linear
    last = layer.axis in (-1, 3)
    exact = convolution.compute_dtype == layer.compute_dtype == convolution.kernel.dtype
    penalised = convolution.activity_regularizer is not None or layer.activity_regularizer is not None
    if penalised or not (linear and last and exact):
        return None
    return convolution, convolution._inbound_nodes[history.node_index].input_tensors[0]
