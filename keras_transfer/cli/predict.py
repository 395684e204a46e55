"""``keras-transfer predict``."""

from __future__ import annotations

import json
from typing import Any

import click

from keras_transfer.cli._common import output_options, prepare, print_json


@click.command()
@click.argument("model")
@click.argument("images", nargs=-1, required=True)
@click.option("--top", default=5, show_default=True, metavar="K", help="How many classes to tell.")
@click.option(
    "--labels-file", metavar="FILE", help="Class names, one a line, if nothing beside MODEL tells them."
)
@output_options
@click.pass_context
def predict(
    ctx: click.Context,
    model: str,
    images: tuple[str, ...],
    top: int,
    labels_file: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Ask MODEL about IMAGES (files, or folders that are searched).

    A file that cannot be read is reported and the others are answered; the exit code is then 1.
    """
    prepare(quiet)
    from keras_transfer.workflow.predict import predict as answers

    results, unreadable = [], 0
    for answer in answers(model, images, top=top, labels=labels_file):
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


def _told(answer: dict[str, Any]) -> str:
    """A task's answer in one line: labels, else the most probable classes, else numbers; whatever else as JSON."""
    for key in ("labels", "classes"):
        if key in answer:
            return ", ".join(f"{row['label']} {row['probability']:.1%}" for row in answer[key]) or "no label"
    if "values" in answer:
        return ", ".join(f"{name} {value:.6g}" for name, value in answer["values"].items())
    return json.dumps({name: value for name, value in answer.items() if name != "path"})
