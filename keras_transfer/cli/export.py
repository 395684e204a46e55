"""``keras-transfer export``."""

from __future__ import annotations

from typing import Any

import click

from keras_transfer.cli.kit import (
    offline_option,
    options_of,
    output_options,
    prepare,
    print_json,
    print_table,
    run_data_option,
    size_of,
)
from keras_transfer.export.targets.plan import with_targets
from keras_transfer.records import ExportOptions
from keras_transfer.wording import percent, score

SHOWN = 4
"""Operators on the CPU that are named."""
COUNTED = ("npu_operators", "tpu_operators", "cpu_operators", "cycles")


@click.command()
@click.argument("run")
@click.option("--to", required=True, metavar="DIR", help="The folder to make.")
@options_of(ExportOptions)
@run_data_option
@click.option("--overwrite", is_flag=True, help="Replace an earlier export.")
@offline_option
@output_options
def export(
    run: str,
    to: str,
    data: str | None,
    overwrite: bool,
    offline: bool,
    as_json: bool,
    quiet: bool,
    **values: Any,
) -> None:
    """Export RUN to a bundle: Keras, SavedModel and TFLite, each compared with the trained model.

    Every artefact is run through its own runtime on the run's test images. One that differs by more than its
    precision may fails the export; parity.json keeps the evidence. The bundle carries its labels, its preprocessing,
    golden images with the expected answers, a model card, and classify.py, which runs without TensorFlow.
    """
    options = with_targets(ExportOptions.of(**values))
    prepare(quiet, offline)
    from keras_transfer.workflow.export import export_run

    report = export_run(run, to, options=options, data=data, overwrite=overwrite).to_dict()
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
    for row in (*report["artefacts"], *report["tried"]):
        if row.get("note"):
            click.echo(f"{row['file']}: {row['note']}")
    made = [row for row in report["targets"] if not row["refused"]]
    if made:
        columns = ["target", "made from", "files", "proven in", "golden diff.", name, "measured"]
        print_table(columns, [_target(row, metric) for row in made])
    for row in report["targets"]:
        if row["refused"]:
            click.echo(f"{row['target']} from {row['source']} is left out: {row['refused']}")
        away = row["measured"].get("on_cpu", [])
        for one in away[:SHOWN]:
            click.echo(
                f"{row['target']}: {one['operator']} of layer {one['layer']} runs on the CPU: {one['reason']}."
            )
        if len(away) > SHOWN:
            click.echo(f"{row['target']}: and {len(away) - SHOWN} more; bundle.json names all.")


def _target(row: dict[str, Any], metric: str) -> tuple[Any, ...]:
    """A row of the table of targets."""
    measured = row["measured"]
    told = [
        f"{key.removesuffix('_bytes')} {size_of(measured[key])}" for key in measured if key.endswith("_bytes")
    ]
    told += [f"{measured[key]:,} {key.replace('_', ' ')}" for key in COUNTED if key in measured]
    return (
        row["target"],
        row["source"],
        len(row["files"]),
        row["runtime"],
        "equal" if not row["difference"] else f"{row['difference']:.1e}",
        "-" if row["artefact"] is None else score(metric, row["artefact"][metric]),
        ", ".join(told),
    )
