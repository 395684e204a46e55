"""Local response normalization: the step between AlexNet's layers that batch normalization replaced."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from ...errors import UsageError


@keras.saving.register_keras_serializable(package="keras_transfer")
class LocalResponseNormalization(keras.layers.Layer):
    """Each number divided by the strength of its neighbours in the same place: no weights, nothing learnt.

    ``b[i] = a[i] / (bias + alpha * sum(a[j] ** 2 for j in i - depth_radius .. i + depth_radius)) ** beta`` over the
    channels ``i``; at the edges there are fewer neighbours. Equal to ``tf.nn.local_response_normalization``, and one
    operator (``LOCAL_RESPONSE_NORMALIZATION``) in a TFLite file. The defaults are AlexNet's.

    Input and output: float ``(B, H, W, C)``; computed in float32.

    A ``.keras`` file with this layer loads where ``keras_transfer.backbones`` has been imported.

    Source: Krizhevsky et al. 2012, section 3.3 (there ``n`` = 2 ``depth_radius`` + 1 and ``k`` = ``bias``).

    Args:
        depth_radius: how many channels on either side count, at least 0.
        bias: what keeps the division from zero, above 0.
        alpha: weight of the neighbours' squares, at least 0; not divided by their number.
        beta: the exponent.

    Raises:
        UsageError: a value out of its range.
    """

    def __init__(
        self, depth_radius: int = 2, bias: float = 2.0, alpha: float = 1e-4, beta: float = 0.75, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(depth_radius, int) or depth_radius < 0 or bias <= 0 or alpha < 0:
            raise UsageError(
                f"depth_radius={depth_radius!r}, bias={bias!r}, alpha={alpha!r} were given; expected a whole number "
                "of at least 0, a number above 0, and a number of at least 0."
            )
        self.depth_radius, self.bias, self.alpha, self.beta = depth_radius, bias, alpha, beta
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        """Normalise ``(B, H, W, C)``."""
        given = inputs.dtype
        normalized = tf.nn.local_response_normalization(
            tf.cast(inputs, tf.float32), self.depth_radius, self.bias, self.alpha, self.beta
        )
        return tf.cast(normalized, given)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """All four numbers."""
        own = {name: getattr(self, name) for name in ("depth_radius", "bias", "alpha", "beta")}
        return {**super().get_config(), **own}
