"""``keras-transfer predict``."""

from __future__ import annotations

import json
from typing import Any

import click

from keras_transfer.cli._model import model_arguments, network_options, open_arguments
from keras_transfer.cli.kit import (
    input_range_option,
    logits_option,
    offline_option,
    output_options,
    print_json,
)


@click.command()
@model_arguments
@click.option("--top", default=5, show_default=True, metavar="K", help="How many classes to list.")
@input_range_option
@logits_option
@offline_option
@output_options
@click.pass_context
def predict(
    ctx: click.Context,
    model_and_images: tuple[str, ...],
    backbone: str | None,
    labels_file: str | None,
    top: int,
    input_range: tuple[float, float] | None,
    logits: bool,
    offline: bool,
    as_json: bool,
    quiet: bool,
    **network: Any,
) -> None:
    """Ask MODEL (a run folder, a .keras or .h5 file, a SavedModel, a .tflite), or a pretrained network, about IMAGES.

    IMAGES are files, folders that are searched, or CSV files with a column path. A file that cannot be read is reported
    and the others are answered; the exit code is then 1.

    \b
    keras-transfer predict run photo.jpg
    keras-transfer predict --backbone efficientnet_lite0 photo.jpg
    """
    model, images = open_arguments(ctx, model_and_images, backbone, network, quiet=quiet, offline=offline)
    from keras_transfer.workflow.predict import predict as answers

    results, unreadable = [], 0
    told = answers(model, images, top=top, labels=labels_file, input_range=input_range, logits=logits)
    for answer in told:
        unreadable += "error" in answer
        if as_json:
            results.append(answer)
        elif "error" in answer:
            click.echo(f"{answer['path']}: {answer['error']}", err=True)
        else:
            click.echo(f"{answer['path']}: {_told(answer)}")
    if as_json:
        print_json(results)
    if unreadable:
        ctx.exit(1)


predict.params += network_options()


def _told(answer: dict[str, Any]) -> str:
    """A task's answer in one line: labels, else the most probable classes, else numbers; whatever else as JSON."""
    if answer.get("reason") == "unknown":
        known = {name: value for name, value in answer.items() if name not in ("reason", "answered")}
        return f"unknown (unfamiliarity {known.pop('unfamiliarity'):.4g}; otherwise {_told(known)})"
    for key in ("labels", "classes"):
        if key in answer:
            return ", ".join(f"{row['label']} {row['probability']:.1%}" for row in answer[key]) or "no label"
    if "values" in answer:
        return ", ".join(f"{name} {value:.6g}" for name, value in answer["values"].items())
    return json.dumps({name: value for name, value in answer.items() if name != "path"})
