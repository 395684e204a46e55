"""``keras-transfer benchmark``."""

from __future__ import annotations

import click

from keras_transfer.cli.kit import (
    output_options,
    overwrite_option,
    plot_option,
    prepare,
    print_json,
    print_table,
    size_of,
)
from keras_transfer.outputs import Outputs


@click.command()
@click.argument("bundle")
@click.option(
    "--threads",
    multiple=True,
    type=click.IntRange(min=1),
    metavar="N",
    help="Repeatable; default: 1 and all cores.",
)
@click.option(
    "--seconds",
    default=2.0,
    show_default=True,
    type=click.FloatRange(min=0.0, min_open=True),
    help="How long each artefact is measured, for single images and for batches.",
)
@click.option(
    "--rounds",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="How often all artefacts are measured.",
)
@plot_option
@overwrite_option
@output_options
def benchmark(
    bundle: str,
    threads: tuple[int, ...],
    seconds: float,
    rounds: int,
    plot: str | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Time every artefact of BUNDLE on this machine, each in a process of its own."""
    places = Outputs([bundle], overwrite=overwrite, option="--plot")
    if plot:
        places.check(plot)
    prepare(quiet)
    from keras_transfer.export.benchmark import benchmark as measure
    from keras_transfer.export.bundle import load_bundle

    result = measure(load_bundle(bundle), threads=threads, seconds=seconds, rounds=rounds)
    if plot:
        from keras_transfer.evaluation.plots import latency_chart

        with places.writing(plot) as place:
            latency_chart(result["timings"], place)
    if as_json:
        print_json(result)
        return
    rows = [
        (
            row["file"],
            row["threads"],
            f"{row['load']:.0f} ms",
            f"{row['p50']:.1f} ms",
            f"{row['p90']:.1f} ms",
            f"{row['p99']:.1f} ms",
            f"{row['throughput']:.0f}",
            f"{row['memory']:.0f} MB",
            size_of(row["bytes"]),
            "-" if row["ratio"] is None else f"{row['ratio']:.1f}x",
        )
        for row in result["timings"]
    ]
    columns = ["artefact", "threads", "load", "p50", "p90", "p99", "images/s", "memory", "size", "Keras"]
    print_table(columns, rows)
    click.echo(
        "p50, p90, p99: one image at a time. images/s: in batches of 8. memory: the process's largest, its runtime "
        f"included. Keras: times as fast as keras.Model.predict.\n{result['machine']}."
    )
    if plot:
        click.echo(f"Picture: {plot}")
