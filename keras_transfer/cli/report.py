"""``keras-transfer report``."""

from __future__ import annotations

import click

from keras_transfer.cli.kit import output_options, overwrite_option, prepare, print_json


@click.command()
@click.argument("runs", metavar="RUN [RUN ...]", nargs=-1, required=True)
@click.option(
    "--output", "-o", metavar="FILE", help="The page (default: report.html, in the folder of a single run)."
)
@click.option(
    "--bundle",
    "bundles",
    multiple=True,
    metavar="DIR",
    help="Tell what this export of the run measured, too (repeatable; one run).",
)
@overwrite_option
@output_options
def report(
    runs: tuple[str, ...],
    output: str | None,
    bundles: tuple[str, ...],
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write one page about RUN, or several side by side: data, training, mistakes, calibration, how to repeat it.

    The page needs nothing else: it opens in any browser, offline, and prints.
    """
    from keras_transfer.run import open_run

    for run in runs:  # before TensorFlow is imported
        open_run(run)
    prepare(quiet)
    from keras_transfer.workflow.report import report as write

    path = write(runs, output, bundles=bundles, overwrite=overwrite)
    if as_json:
        print_json({"output": str(path), "runs": list(runs), "bytes": path.stat().st_size})
        return
    click.echo(f"Report: {path}")
