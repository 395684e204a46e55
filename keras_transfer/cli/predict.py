"""``keras-transfer predict``."""

from __future__ import annotations

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
            told = ", ".join(f"{row['label']} {row['probability']:.1%}" for row in answer["classes"])
            click.echo(f"{answer['path']}: {told}")
    if as_json:
        print_json(results)
    if unreadable:
        ctx.exit(1)
