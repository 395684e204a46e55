"""``keras-transfer predict``."""

from __future__ import annotations

import json
from typing import Any

import click
from click.core import ParameterSource

from keras_transfer.catalog import get_spec
from keras_transfer.cli._common import click_option, offline_option, output_options, prepare, print_json
from keras_transfer.options import describe
from keras_transfer.settings import ModelSettings

_NETWORK = [info for info in describe(ModelSettings) if info.name not in ("backbone", "cut", "input_mode")]


@click.command()
@click.argument("model_and_images", nargs=-1, required=True, metavar="[MODEL] IMAGES...")
@click.option(
    "--backbone",
    metavar="NAME",
    help="Instead of MODEL: a pretrained network as it is, with the 1,000 ImageNet classes.",
)
@click.option("--top", default=5, show_default=True, metavar="K", help="How many classes to tell.")
@click.option(
    "--labels-file", metavar="FILE", help="Class names, one a line, if nothing beside MODEL tells them."
)
@offline_option
@output_options
@click.pass_context
def predict(
    ctx: click.Context,
    model_and_images: tuple[str, ...],
    backbone: str | None,
    top: int,
    labels_file: str | None,
    offline: bool,
    as_json: bool,
    quiet: bool,
    **network: Any,
) -> None:
    """Ask MODEL (a run folder, a .keras file, a SavedModel, a .tflite), or a pretrained network, about IMAGES.

    IMAGES are files, or folders that are searched. A file that cannot be read is reported and the others are answered;
    the exit code is then 1.

    \b
    keras-transfer predict run photo.jpg
    keras-transfer predict --backbone efficientnet_lite0 photo.jpg
    """
    from keras_transfer.errors import UsageError

    given = {name for name in network if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT}
    if backbone is None and given:
        raise UsageError(
            f"--{min(given).replace('_', '-')} is for a pretrained network (--backbone); a model brings its own."
        )
    if backbone is not None:
        get_spec(backbone)  # before TensorFlow is imported
    model, images = (None, model_and_images) if backbone is not None else _split(model_and_images)
    prepare(quiet, offline)
    from keras_transfer.workflow.predict import find_images
    from keras_transfer.workflow.predict import predict as answers

    subject: Any = model
    if backbone is not None:
        from keras_transfer.workflow.as_is import as_is

        find_images(images)  # a missing file is found before a network is built
        subject = as_is(backbone, **{name: network[name] for name in given | {"weights"}})
    results, unreadable = [], 0
    for answer in answers(subject, images, top=top, labels=labels_file):
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


predict.params += [click_option(info) for info in _NETWORK]


def _split(arguments: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    if len(arguments) < 2:
        raise click.UsageError("MODEL and IMAGES are expected, or --backbone NAME and IMAGES.")
    return arguments[0], arguments[1:]


def _told(answer: dict[str, Any]) -> str:
    """A task's answer in one line: labels, else the most probable classes, else numbers; whatever else as JSON."""
    for key in ("labels", "classes"):
        if key in answer:
            return ", ".join(f"{row['label']} {row['probability']:.1%}" for row in answer[key]) or "no label"
    if "values" in answer:
        return ", ".join(f"{name} {value:.6g}" for name, value in answer["values"].items())
    return json.dumps({name: value for name, value in answer.items() if name != "path"})
