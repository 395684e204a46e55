"""How EfficientNet grows: depth, width and resolution together, by one number.

Making a network deeper, wider, or its images larger helps less and less when done alone. Tan and Le grow all three in a
fixed proportion: ``depth = 1.2 ** phi``, ``width = 1.1 ** phi``, ``resolution = 1.15 ** phi``. As the cost goes with
``depth * width ** 2 * resolution ** 2`` and ``1.2 * 1.1 ** 2 * 1.15 ** 2`` is about 2, each step of ``phi`` doubles it.

Source: Tan and Le 2019, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, arXiv:1905.11946,
section 3.3 and table 1; the coefficients of B0 to B7 and the rounding: github.com/tensorflow/tpu,
models/official/efficientnet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..errors import UsageError, unknown_name

ALPHA, BETA, GAMMA = 1.2, 1.1, 1.15
"""Growth of depth, width and resolution a step, found by a grid search around B0."""
BASE_RESOLUTION = 224
DIVISOR = 8
"""Channels are multiples of this."""


@dataclass(frozen=True)
class Coefficients:
    """By how much a network is larger than B0.

    Attributes:
        width: channels, times this.
        depth: repeats of each block, times this.
        resolution: side of the images in pixels.
    """

    width: float
    depth: float
    resolution: int


@dataclass(frozen=True)
class Stage:
    """A stage of inverted residual blocks.

    Attributes:
        repeats: how many blocks.
        filters: channels that come out.
        kernel: side of the depthwise kernel.
        strides: of the first block.
        expansion: channels inside a block, times its input's.
    """

    repeats: int
    filters: int
    kernel: int
    strides: int
    expansion: int


@dataclass(frozen=True)
class Scaled:
    """A network made from B0 by the rule.

    Attributes:
        stem: channels of the first convolution.
        stages: the seven stages.
        head: channels of the last convolution, so of the features.
        resolution: side of the images in pixels.
    """

    stem: int
    stages: tuple[Stage, ...]
    head: int
    resolution: int

    @property
    def blocks(self) -> int:
        """How many inverted residual blocks there are."""
        return sum(stage.repeats for stage in self.stages)


STEM, HEAD = 32, 1280
B0 = (
    Stage(1, 16, 3, 1, 1),
    Stage(2, 24, 3, 2, 6),
    Stage(2, 40, 5, 2, 6),
    Stage(3, 80, 3, 2, 6),
    Stage(3, 112, 5, 1, 6),
    Stage(4, 192, 5, 2, 6),
    Stage(1, 320, 3, 1, 6),
)
"""Table 1 of the paper, found by an architecture search."""
PUBLISHED: Mapping[str, Coefficients] = MappingProxyType(
    {
        "B0": Coefficients(1.0, 1.0, 224),
        "B1": Coefficients(1.0, 1.1, 240),
        "B2": Coefficients(1.1, 1.2, 260),
        "B3": Coefficients(1.2, 1.4, 300),
        "B4": Coefficients(1.4, 1.8, 380),
        "B5": Coefficients(1.6, 2.2, 456),
        "B6": Coefficients(1.8, 2.6, 528),
        "B7": Coefficients(2.0, 3.1, 600),
        "Lite0": Coefficients(1.0, 1.0, 224),
        "Lite1": Coefficients(1.0, 1.1, 240),
        "Lite2": Coefficients(1.1, 1.2, 260),
        "Lite3": Coefficients(1.2, 1.4, 280),
        "Lite4": Coefficients(1.4, 1.8, 300),
    }
)
"""What the authors published. B1 to B3 are the rule's at phi = 0.5, 1, 2, rounded; from B4 on they chose more than the
rule gives for a whole phi, so that no single number leads to all three."""


def compound_coefficients(
    phi: float, *, alpha: float = ALPHA, beta: float = BETA, gamma: float = GAMMA
) -> Coefficients:
    """The rule: how deep, wide and large a network is that may cost ``2 ** phi`` times what B0 costs.

    Args:
        phi: 0 gives B0; at least 0.
        alpha, beta, gamma: growth of depth, width and resolution a step, at least 1 each.

    Returns:
        The coefficients, not rounded but for the resolution (whole pixels).

    Raises:
        UsageError: a number out of its range.
    """
    if phi < 0 or min(alpha, beta, gamma) < 1:
        raise UsageError(
            f"phi={phi!r}, alpha={alpha!r}, beta={beta!r}, gamma={gamma!r} were given; phi of at least 0 and the "
            "others of at least 1 are expected."
        )
    return Coefficients(beta**phi, alpha**phi, round(BASE_RESOLUTION * gamma**phi))


def compound_scaling(scale: str | Coefficients, *, lite: bool | None = None) -> Scaled:
    """A whole network from the rule: every stage's repeats and channels.

    Args:
        scale: ``"B0"`` to ``"B7"``, ``"Lite0"`` to ``"Lite4"``, or coefficients (:func:`compound_coefficients`).
        lite: keep stem, head and the repeats of the first and last stage as in B0, as the Lite networks do; None: where
            the name says so.

    Returns:
        The network's numbers.

    Raises:
        UsageError: an unknown name, or coefficients that are not above 0.
    """
    if isinstance(scale, str):
        if scale not in PUBLISHED:
            raise unknown_name("scale of EfficientNet", scale, PUBLISHED)
        lite = scale.startswith("Lite") if lite is None else lite
        scale = PUBLISHED[scale]
    if min(scale.width, scale.depth, scale.resolution) <= 0:
        raise UsageError(f"{scale} was given; coefficients above 0 are expected.")
    last = len(B0) - 1
    stages = tuple(
        Stage(
            stage.repeats if lite and place in (0, last) else round_repeats(stage.repeats, scale.depth),
            round_filters(stage.filters, scale.width),
            stage.kernel,
            stage.strides,
            stage.expansion,
        )
        for place, stage in enumerate(B0)
    )
    stem, head = (
        (STEM, HEAD) if lite else (round_filters(STEM, scale.width), round_filters(HEAD, scale.width))
    )
    return Scaled(stem, stages, head, scale.resolution)


def round_filters(filters: int, width: float) -> int:
    """``filters * width``, rounded to a multiple of 8, never by more than 10 % down."""
    wanted = filters * width
    rounded = max(DIVISOR, int(wanted + DIVISOR / 2) // DIVISOR * DIVISOR)
    return rounded + DIVISOR if rounded < 0.9 * wanted else rounded


def round_repeats(repeats: int, depth: float) -> int:
    """``repeats * depth``, rounded up."""
    return math.ceil(repeats * depth)
