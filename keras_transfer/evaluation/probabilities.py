"""Whether what a classifier gives are probabilities at all."""

from __future__ import annotations

import numpy as np

from keras_transfer.errors import UsageError

MANY = 64
"""Above so many classes the sum of rounded probabilities (int8) says nothing."""


def require_probabilities(outputs: np.ndarray, name: str, *, exclusive: bool) -> None:
    """Raise ``UsageError`` unless outputs ``(N, ..., C)`` can be probabilities.

    A network that was trained with ``from_logits=True`` ends without a softmax: its largest output names the right
    class, and all that is made of probabilities is wrong: thresholds, calibration, the shares that a phone shows.

    Args:
        outputs: for real images.
        name: of the model.
        exclusive: whether one class is right, so that each row sums to 1.
    """
    finite = outputs[np.isfinite(outputs)]
    if not finite.size:
        return
    low, high = float(finite.min()), float(finite.max())
    said = f"{name} gives numbers from {low:.4g} to {high:.4g}"
    if low < -0.01 or high > 1.01:
        raise UsageError(
            f"{said}, which are not probabilities: it seems to end without a softmax (trained with from_logits=True). "
            "Append one (--logits, or logits=True), or give the model with its softmax."
        )
    sums = outputs.reshape(-1, outputs.shape[-1]).sum(axis=-1)
    middle = float(np.median(sums))
    if exclusive and 1 < outputs.shape[-1] <= MANY and abs(middle - 1.0) > 0.2:
        raise UsageError(
            f"{said} whose rows sum to {middle:.3g}, not to 1: they are not probabilities of classes of which one is "
            "right. If each label is answered on its own (a sigmoid), it is a model of the multilabel task; if they "
            "are logits, append a softmax (--logits, or logits=True)."
        )
