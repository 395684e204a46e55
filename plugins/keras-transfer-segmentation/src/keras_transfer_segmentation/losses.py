"""Losses for segmentation, each one value per image, with ignored pixels and class weights.

All take truth ``(B, H, W)`` (or ``(B, H, W, 1)``), class indices, and predictions ``(B, H, W, C)``: probabilities,
or logits with ``from_logits=True``. A pixel whose truth is ``ignore_index`` (or no class) does not count: neither value
nor gradient depend on what is predicted there. An image without any pixel that counts has loss 0.

The mean is taken over an image first, so that the loss of an image does not depend on the others in its batch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_transfer.errors import UsageError, unknown_name
from keras_transfer_segmentation.classes import IGNORE_INDEX

_SMALLEST = 1e-7
"""Probabilities are clipped here before the logarithm: float32 softmax outputs can be exactly 0."""
_PACKAGE = "keras_transfer_segmentation"


class SegmentationLoss(keras.losses.Loss):
    """What the losses share. Subclasses define :meth:`per_image`.

    Args:
        from_logits: predictions are logits; else probabilities that sum to 1 over the last axis.
        ignore_index: the truth of pixels that do not count.
        class_weights: one weight of at least 0 for each class, not all 0; None: all 1. Only their proportion matters.
        reduction, name: as in ``keras.losses.Loss``.

    Raises:
        UsageError: impossible class weights.
    """

    def __init__(
        self,
        *,
        from_logits: bool = False,
        ignore_index: int = IGNORE_INDEX,
        class_weights: Sequence[float] | None = None,
        reduction: str = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        # float32 whatever the policy: class indices up to 65535 and sums over many pixels must stay exact.
        super().__init__(name=name, reduction=reduction, dtype="float32")
        self.from_logits = bool(from_logits)
        self.ignore_index = int(ignore_index)
        self.class_weights = None if class_weights is None else [float(weight) for weight in class_weights]
        if self.class_weights is not None and not (
            all(0 <= weight < float("inf") for weight in self.class_weights) and sum(self.class_weights) > 0
        ):
            raise UsageError(
                f"class_weights are {self.class_weights}; expected numbers of at least 0, not all 0."
            )

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """float32 ``(B,)``: the loss of each image."""
        classes = y_pred.shape[-1]
        if self.class_weights is not None and len(self.class_weights) != classes:
            raise UsageError(
                f"There are {len(self.class_weights)} class weights and {classes} classes; expected one for each."
            )
        batch = ops.shape(y_pred)[0]
        labels = ops.cast(ops.reshape(y_true, (batch, -1)), "int32")
        counts = (labels != self.ignore_index) & (labels >= 0) & (labels < classes)
        # one_hot of an index that is no class is all 0: such pixels drop out of every sum below.
        truth = ops.one_hot(ops.where(counts, labels, -1), classes, dtype="float32")
        predicted = ops.reshape(y_pred, (batch, -1, classes))
        # What is predicted for pixels that do not count may be NaN, and 0 * NaN is NaN: it is replaced.
        predicted = ops.where(counts[..., None], predicted, 0.0 if self.from_logits else 1.0 / classes)
        if self.from_logits:
            log_p = ops.log_softmax(predicted, axis=-1)
            p = ops.exp(log_p)
        else:
            log_p = ops.log(ops.maximum(predicted, _SMALLEST))
            p = predicted
        return self.per_image(truth, p, log_p, ops.cast(counts, "float32"))

    def per_image(self, truth: Any, p: Any, log_p: Any, counts: Any) -> Any:
        """The loss of each image, ``(B,)``, of its pixels in a row.

        Args:
            truth: float32 ``(B, N, C)``, one-hot; all 0 where the pixel does not count.
            p, log_p: float32 ``(B, N, C)``, probabilities and their natural logarithms.
            counts: float32 ``(B, N)``, 1 for pixels that count, else 0.
        """
        raise NotImplementedError

    def pixel_mean(self, values: Any, truth: Any) -> Any:
        """``(B,)``: the mean of values ``(B, N)`` over the pixels that count, weighted by the weight of their class."""
        weights = ops.sum(truth if self.class_weights is None else truth * self._weights(), axis=-1)
        return _divide(ops.sum(values * weights, axis=1), ops.sum(weights, axis=1))

    def class_mean(self, values: Any, truth: Any) -> Any:
        """``(B,)``: the weighted mean of values ``(B, C)`` over the classes that occur in the image's truth."""
        weights = ops.cast(ops.any(truth > 0, axis=1), "float32")
        if self.class_weights is not None:
            weights = weights * self._weights()
        return _divide(ops.sum(values * weights, axis=1), ops.sum(weights, axis=1))

    def get_config(self) -> dict[str, Any]:
        """All arguments, JSON-able."""
        return {
            "from_logits": self.from_logits,
            "ignore_index": self.ignore_index,
            "class_weights": self.class_weights,
            "reduction": self.reduction,
            "name": self.name,
        }

    def _weights(self) -> Any:
        return ops.convert_to_tensor(self.class_weights, "float32")


@keras.saving.register_keras_serializable(_PACKAGE)
class CrossEntropy(SegmentationLoss):
    """Minus the logarithm (nats) of the probability of the true class, the mean over pixels."""

    def per_image(self, truth: Any, p: Any, log_p: Any, counts: Any) -> Any:
        return self.pixel_mean(-ops.sum(truth * log_p, axis=-1), truth)


@keras.saving.register_keras_serializable(_PACKAGE)
class Focal(SegmentationLoss):
    """Cross-entropy times ``(1 - p)^gamma`` with the probability ``p`` of the true class: easy pixels weigh less.

    Lin et al. 2017, Focal Loss for Dense Object Detection, arXiv:1708.02002. ``gamma`` is 0 (cross-entropy) or at
    least 1 (below 1 the gradient of a perfect prediction is infinite).
    """

    def __init__(self, *, gamma: float = 2.0, **arguments: Any) -> None:
        super().__init__(**arguments)
        if gamma != 0 and not 1 <= gamma < float("inf"):
            raise UsageError(f"gamma is {gamma!r}; expected 0, or a number of at least 1.")
        self.gamma = float(gamma)

    def per_image(self, truth: Any, p: Any, log_p: Any, counts: Any) -> Any:
        cross_entropy = -ops.sum(truth * log_p, axis=-1)
        if self.gamma:
            missing = ops.clip(1.0 - ops.sum(truth * p, axis=-1), _SMALLEST, 1.0)
            cross_entropy = cross_entropy * missing**self.gamma
        return self.pixel_mean(cross_entropy, truth)

    def get_config(self) -> dict[str, Any]:
        """All arguments, JSON-able."""
        return {**super().get_config(), "gamma": self.gamma}


@keras.saving.register_keras_serializable(_PACKAGE)
class Tversky(SegmentationLoss):
    """``1 - TP / (TP + alpha * FP + beta * FN)`` with soft counts, the mean over the classes of an image's truth.

    Salehi et al. 2017, Tversky loss function for image segmentation using 3D fully convolutional deep networks,
    arXiv:1706.05721. ``beta`` above ``alpha`` (both positive): missing pixels cost more than wrong ones.
    """

    def __init__(self, *, alpha: float = 0.3, beta: float = 0.7, **arguments: Any) -> None:
        super().__init__(**arguments)
        for name, value in (("alpha", alpha), ("beta", beta)):
            if not 0 < value < float("inf"):
                raise UsageError(f"{name} is {value!r}; expected a positive number.")
        self.alpha, self.beta = float(alpha), float(beta)

    def per_image(self, truth: Any, p: Any, log_p: Any, counts: Any) -> Any:
        hits = ops.sum(truth * p, axis=1)
        false_positives = ops.sum(counts[..., None] * p, axis=1) - hits
        false_negatives = ops.sum(truth, axis=1) - hits
        union = hits + self.alpha * false_positives + self.beta * false_negatives
        return self.class_mean(1.0 - _divide(hits, union), truth)

    def get_config(self) -> dict[str, Any]:
        """All arguments, JSON-able."""
        return {**super().get_config(), "alpha": self.alpha, "beta": self.beta}


@keras.saving.register_keras_serializable(_PACKAGE)
class Dice(Tversky):
    """``1 - 2 TP / (2 TP + FP + FN)`` with soft counts, the mean over the classes of an image's truth.

    Milletari et al. 2016, V-Net, arXiv:1606.04797, with plain instead of squared sums in the denominator, as in
    Sudre et al. 2017, arXiv:1707.03237. It is Tversky with both weights 1/2.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(alpha=0.5, beta=0.5, **arguments)

    def get_config(self) -> dict[str, Any]:
        """All arguments, JSON-able."""
        return SegmentationLoss.get_config(self)


@keras.saving.register_keras_serializable(_PACKAGE)
class LovaszSoftmax(SegmentationLoss):
    """The Lovász extension of ``1 - IoU``, the mean over the classes of an image's truth.

    Berman et al. 2018, The Lovász-Softmax loss, arXiv:1705.08790 (its variant per image, classes present).
    """

    def per_image(self, truth: Any, p: Any, log_p: Any, counts: Any) -> Any:
        errors = ops.transpose(ops.abs(truth - p) * counts[..., None], (0, 2, 1))
        foreground = ops.transpose(truth, (0, 2, 1))
        order = ops.argsort(-errors, axis=-1)
        errors = ops.take_along_axis(errors, order, axis=-1)
        foreground = ops.take_along_axis(foreground, order, axis=-1)
        total = ops.sum(foreground, axis=-1, keepdims=True)
        # The Jaccard loss when the pixels up to here are wrong, and what each pixel adds to it.
        missed, wrong = ops.cumsum(foreground, axis=-1), ops.cumsum(1.0 - foreground, axis=-1)
        jaccard = 1.0 - _divide(total - missed, total + wrong)
        steps = ops.concatenate([jaccard[..., :1], jaccard[..., 1:] - jaccard[..., :-1]], axis=-1)
        return self.class_mean(ops.sum(errors * steps, axis=-1), truth)


LOSSES: dict[str, type[SegmentationLoss]] = {
    "cross_entropy": CrossEntropy,
    "focal": Focal,
    "dice": Dice,
    "tversky": Tversky,
    "lovasz": LovaszSoftmax,
}
_TERM = re.compile(r"(?:(?P<weight>\d+\.?\d*|\.\d+)\s*\*\s*)?(?P<name>[A-Za-z_]\w*)")


@keras.saving.register_keras_serializable(_PACKAGE)
class WeightedSum(SegmentationLoss):
    """Losses added up, from a text such as ``"cross_entropy+0.5*dice"``.

    Args:
        spec: terms ``name`` or ``weight*name`` joined by ``+``; the names are those of ``LOSSES``, each at most once,
            with their default parameters.
        arguments: of :class:`SegmentationLoss`, for every term.

    Raises:
        UsageError: a text that cannot be read, or an unknown loss.
    """

    def __init__(self, spec: str = "cross_entropy+dice", **arguments: Any) -> None:
        super().__init__(**arguments)
        self.spec = spec
        shared: dict[str, Any] = {
            "from_logits": self.from_logits,
            "ignore_index": self.ignore_index,
            "class_weights": self.class_weights,
        }
        self.terms = [(weight, LOSSES[name](**shared)) for weight, name in parse_spec(spec)]

    def per_image(self, truth: Any, p: Any, log_p: Any, counts: Any) -> Any:
        return sum(weight * loss.per_image(truth, p, log_p, counts) for weight, loss in self.terms)

    def get_config(self) -> dict[str, Any]:
        """All arguments, JSON-able."""
        return {**super().get_config(), "spec": self.spec}


def parse_spec(spec: str) -> list[tuple[float, str]]:
    """``"cross_entropy+0.5*dice"`` to ``[(1.0, "cross_entropy"), (0.5, "dice")]``; errors as :class:`WeightedSum`."""
    terms: list[tuple[float, str]] = []
    for text in spec.split("+"):
        match = _TERM.fullmatch(text.strip())
        if match is None:
            raise UsageError(
                f"The loss {spec!r} cannot be read at {text.strip()!r}. Expected names, with weights where wanted, "
                'joined by +, such as "cross_entropy+0.5*dice".'
            )
        name, weight = match["name"], float(match["weight"] or 1)
        if name not in LOSSES:
            raise unknown_name("loss", name, LOSSES)
        if not weight > 0:
            raise UsageError(f"The weight of {name} in {spec!r} is 0. Leave the term out.")
        if name in [known for _, known in terms]:
            raise UsageError(f"The loss {spec!r} has {name} twice. Add up their weights.")
        terms.append((weight, name))
    return terms


def _divide(a: Any, b: Any) -> Any:
    """``a / b``, and 0 where ``b`` is 0, with a gradient that is finite there, too."""
    positive = b > 0
    return ops.where(positive, a / ops.where(positive, b, 1.0), 0.0)
