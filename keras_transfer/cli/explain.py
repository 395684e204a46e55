"""``keras-transfer explain``."""

from __future__ import annotations

from typing import Any

import click

from keras_transfer.cli._model import model_arguments, network_options, open_arguments
from keras_transfer.cli.kit import offline_option, output_options, overwrite_option, print_json


@click.command()
@model_arguments
@click.option("--output", "-o", metavar="DIR", help="Write the pictures there.")
@overwrite_option
@click.option("--label", metavar="NAME", help="The class to explain (default: the most probable).")
@click.option(
    "--layer", metavar="NAME", help="The layer whose feature map is used (default: the last before the head)."
)
@offline_option
@output_options
@click.pass_context
def explain(
    ctx: click.Context,
    model_and_images: tuple[str, ...],
    backbone: str | None,
    labels_file: str | None,
    output: str | None,
    overwrite: bool,
    label: str | None,
    layer: str | None,
    offline: bool,
    as_json: bool,
    quiet: bool,
    **network: Any,
) -> None:
    """Show what MODEL (a run folder or a .keras file), or a pretrained network, looks at in IMAGES.

    Grad-CAM: the pictures show the image as the model sees it, and the same with the places that speak for the class.
    For each image it is told how probable the class is with the highlighted fifth of the image blurred away, and with
    as much blurred elsewhere.

    \b
    keras-transfer explain run photo.jpg --output looks
    keras-transfer explain --backbone efficientnet_lite0 photo.jpg --output looks
    """
    model, images = open_arguments(ctx, model_and_images, backbone, network, quiet=quiet, offline=offline)
    from keras_transfer.workflow.explain import explain as explanations

    results, unreadable = [], 0
    found_in = explanations(
        model, images, output, label=label, layer=layer, labels=labels_file, overwrite=overwrite
    )
    for found in found_in:
        unreadable += "error" in found
        if as_json:
            results.append(found)
        elif "error" in found:
            click.echo(f"{found['path']}: {found['error']}", err=True)
        else:
            click.echo(
                f"{found['path']}: {found['label']} {found['probability']:.1%}, without what is highlighted "
                f"{found['hidden']:.1%}, without as much elsewhere {found['elsewhere']:.1%}"
                + (f": {found['picture']}" if found["picture"] else "")
            )
    if as_json:
        print_json(results)
    if unreadable:
        ctx.exit(1)


explain.params += network_options()
