"""A description in words: tables of blocks and layers, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .description import BlockRow, Description, LayerRow

_COSTS = ("parameters", "multiply-adds", "sees", "activations")
BLOCK_COLUMNS = ("block", "layers", "output", "kernels", "stride", "padding", *_COSTS)
LAYER_COLUMNS = ("layer", "kind", "output", "kernel", "stride", "padding", *_COSTS)
_MANY = 4


def block_cells(row: BlockRow) -> tuple[str, ...]:
    """One block as the cells of :data:`BLOCK_COLUMNS`."""
    return (
        row.name,
        str(row.layers),
        times(row.output_shape),
        _some(map(times, row.kernels)),
        times(row.stride) if row.stride != (1, 1) else "",
        _some(map(_padding, row.padding)),
        count(row.parameters),
        "unknown" if row.multiply_adds is None else count(row.multiply_adds),
        sees(row.receptive_field),
        size(row.activation_bytes),
    )


def layer_cells(row: LayerRow) -> tuple[str, ...]:
    """One layer as the cells of :data:`LAYER_COLUMNS`."""
    return (
        row.name,
        row.kind,
        times(row.output_shape),
        times(row.kernel) if row.kernel else "",
        times(row.stride) if row.stride else "",
        _padding(row.padding) if row.padding else "",
        count(row.parameters),
        "unknown" if row.multiply_adds is None else count(row.multiply_adds),
        sees(row.receptive_field),
        size(row.activation_bytes),
    )


def table(description: Description, layers: bool = False) -> str:
    """The blocks (or layers), a line each, and the totals."""
    cells = (
        [LAYER_COLUMNS, *map(layer_cells, description.layers)]
        if layers
        else [BLOCK_COLUMNS, *map(block_cells, description.blocks)]
    )
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([f"{description.name}, {times(description.input_shape)}", *lines, *remarks(description)])


def remarks(description: Description) -> list[str]:
    """The totals, and what they leave out."""
    total = description.totals
    least = "at least " if description.not_counted else ""
    lines = [
        f"{total.layers} layers, {count(total.parameters)} parameters ({size(total.weight_bytes)}), "
        f"{least}{count(total.multiply_adds)} multiply-adds per image.",
        f"Activations of an image: {size(total.activation_bytes)} in all, {size(total.peak_bytes)} at once in "
        f"inference. The output sees {sees(total.receptive_field)}.",
    ]
    if description.gated:
        lines.append(
            "Squeeze-and-excitation scales its maps by a summary of the whole image; receptive fields leave that out."
        )
    for what, names in (
        ("Multiply-adds not counted (kinds of layers that are not known here)", description.not_counted),
        ("No receptive field behind (what these look at is not known)", description.no_field),
    ):
        if names:
            lines.append(f"{what}: {_some(names)}.")
    return lines


def times(sides: Sequence[Any]) -> str:
    """``(7, 7, 1280)`` as ``7x7x1280``."""
    return "x".join("?" if side is None else str(side) for side in sides) or "-"


def count(number: float) -> str:
    """``384_912_384`` as ``384.9 M``."""
    for unit, least in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= least:
            return f"{number / least:.1f} {unit}"
    return f"{number:.0f}"


def size(number: float) -> str:
    """Bytes: ``3.4 MB`` (1 MB is a million bytes)."""
    return f"{count(number)}{'' if number >= 1e3 else ' '}B"


def sees(field: Any) -> str:
    """A receptive field: ``299x299`` pixels, ``the whole image``, or ``unknown``."""
    if isinstance(field, str):
        return "the whole image" if field == "image" else field
    return times(field)


def _padding(pads: Sequence[Sequence[int]]) -> str:
    """``1`` where all sides are alike, ``0+1`` (before+after) where height and width are, else both."""
    sides = [str(a) if a == b else f"{a}+{b}" for a, b in pads]
    return sides[0] if sides[0] == sides[1] else "x".join(sides)


def _some(values: Any) -> str:
    words = list(values)
    more = f", ... ({len(words)})" if len(words) > _MANY else ""
    return ", ".join(words[:_MANY]) + more
