"""``keras-transfer export``."""

from __future__ import annotations

from typing import Any

import click

from keras_transfer.cli.kit import (
    calibration_option,
    offline_option,
    output_options,
    prepare,
    print_json,
    print_table,
    run_data_option,
    size_of,
)
from keras_transfer.wording import percent, score


@click.command()
@click.argument("run")
@click.option("--to", required=True, metavar="DIR", help="The folder to make.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(["keras", "saved-model", "tflite"]),
    help="Repeatable; default: all.",
)
@click.option(
    "--quantize",
    "precisions",
    multiple=True,
    type=click.Choice(["float32", "none", "float16", "dynamic", "int8", "int16x8"]),
    help="Precision of the TFLite files; repeatable; default: float32 (none means the same).",
)
@run_data_option
@click.option(
    "--uint8-input", is_flag=True, help="Every TFLite file takes uint8 pixels, not only the integer ones."
)
@click.option(
    "--all-integer",
    is_flag=True,
    help="int8: quantize the first layers, the head, the input and the output, too.",
)
@click.option(
    "--keep-float",
    default=0,
    metavar="N",
    help="int8: keep the N layers with the largest error in float (see doctor).",
)
@calibration_option
@click.option(
    "--accuracy-budget",
    type=float,
    metavar="POINTS",
    help="Also deliver the first precision of --fallback that loses at most POINTS.",
)
@click.option(
    "--fallback", metavar="A,B,...", help="Precisions in order of preference (default: int8,int16x8,float16)."
)
@click.option(
    "--allow-parity-failure", is_flag=True, help="Keep artefacts that differ too much from the model."
)
@click.option("--title", metavar="TEXT", help="What the model is called (default: the run's name).")
@click.option("--data-licence", metavar="TEXT", help="Licence of the images: the bundle contains a few.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier export.")
@offline_option
@output_options
def export(
    run: str,
    to: str,
    formats: tuple[str, ...],
    precisions: tuple[str, ...],
    data: str | None,
    uint8_input: bool,
    all_integer: bool,
    keep_float: int,
    calibration_size: int,
    accuracy_budget: float | None,
    fallback: str | None,
    allow_parity_failure: bool,
    title: str | None,
    data_licence: str | None,
    overwrite: bool,
    offline: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Export RUN to a bundle: Keras, SavedModel and TFLite, each compared with the trained model.

    Every artefact is run through its own runtime on the run's test images. One that differs by more than its
    precision may fails the export; parity.json keeps the evidence. The bundle carries its labels, its preprocessing,
    golden images with the expected answers, a model card, and classify.py, which runs without TensorFlow.
    """
    if fallback is not None and accuracy_budget is None:
        raise click.UsageError("--fallback is the order for --accuracy-budget; give that, too.")
    prepare(quiet, offline)
    from keras_transfer.workflow.export import export_run

    report = export_run(
        run,
        to,
        formats=formats or ("keras", "saved-model", "tflite"),
        precisions=precisions or ("float32",),
        data=data,
        uint8_input=uint8_input,
        all_integer=all_integer,
        keep_float=keep_float,
        calibration_size=calibration_size,
        accuracy_budget=accuracy_budget,
        **({} if fallback is None else {"fallback": tuple(fallback.split(","))}),
        allow_parity_failure=allow_parity_failure,
        overwrite=overwrite,
        title=title,
        data_licence=data_licence,
    ).to_dict()
    if as_json:
        print_json(report)
    else:
        print_report(report)
        click.echo(f"Export: {to}")


def print_report(report: dict[str, Any]) -> None:
    """The table of an export: what each artefact is, and how it answers."""
    metric = report["metric"]
    rows = [
        (
            row["file"],
            row["precision"],
            size_of(row["bytes"]),
            score(metric, row[metric]),
            percent(row["agreement"]),
            "not finite" if row["max_difference"] is None else f"{row['max_difference']:.1e}",
            f"{row['milliseconds']:.1f} ms",
            "not delivered" if row in report["tried"] else "ok" if row["passed"] else "FAILED",
        )
        for row in (*report["artefacts"], *report["tried"])
    ]
    name = metric.replace("_", " ")
    print_table(["artefact", "precision", "size", name, "agreement", "max diff.", "latency", ""], rows)
