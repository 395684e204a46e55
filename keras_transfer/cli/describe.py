"""``keras-transfer describe``."""

from __future__ import annotations

from typing import Any

import click

from keras_transfer.cli.kit import (
    output_options,
    overwrite_option,
    picture_file,
    prepare,
    print_json,
    print_table,
)
from keras_transfer.outputs import Outputs


@click.command()
@click.argument("network")
@click.argument("other", required=False)
@click.option(
    "--image-size", type=click.IntRange(min=1), metavar="N", help="Side in pixels (default: the network's)."
)
@click.option("--layers", is_flag=True, help="One line per layer instead of per block.")
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    callback=picture_file,
    help="Draw the cost of each block (PNG, SVG or PDF).",
)
@overwrite_option
@output_options
def describe(
    network: str,
    other: str | None,
    image_size: int | None,
    layers: bool,
    output: str | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Describe NETWORK, a backbone's name, a run folder or a model's file; with OTHER, compare the two.

    For each block (or layer): output, kernels, stride, padding, parameters, multiply-adds for one image, how many
    pixels of the image a position sees, and the memory of its activations.
    """
    if output is not None:
        Outputs([network, other], overwrite=overwrite).check(output)
    prepare(quiet)
    from keras_transfer.backbones.description_text import table
    from keras_transfer.workflow.describe import describe as look_into
    from keras_transfer.workflow.describe import draw, side_by_side

    found = [look_into(name, image_size) for name in (network, other) if name is not None]
    if output is not None:
        draw(found, output, overwrite=overwrite)
    comparison = side_by_side(*found) if len(found) == 2 else None
    if as_json:
        each = [one.to_dict() for one in found]
        print_json(each[0] if comparison is None else {"networks": each, "comparison": comparison})
        return
    for one in found:
        if comparison is None or layers:
            click.echo(table(one, layers))
    if comparison is not None:
        _print_comparison(found, comparison)
    if output is not None:
        click.echo(f"Picture: {output}")


def _print_comparison(found: list[Any], comparison: list[dict[str, Any]]) -> None:
    from keras_transfer.backbones.description_text import count, remarks, sees, size, times

    rows = [("input", *(times(one.input_shape) for one in found), "")]
    for row in comparison:
        form = size if row["what"].endswith("bytes") else count
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.3g} x"
        rows.append((row["what"].replace("_", " "), form(row["first"]), form(row["second"]), ratio))
    rows.append(("output sees", *(sees(one.totals.receptive_field) for one in found), ""))
    print_table(("", *(one.name for one in found), "ratio"), rows)
    for one in found:
        for line in remarks(one)[2:]:
            click.echo(f"{one.name}: {line}")
