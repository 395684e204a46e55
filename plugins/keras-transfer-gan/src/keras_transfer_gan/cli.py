"""``keras-transfer gan``: images from a trained generator."""

from __future__ import annotations

from pathlib import Path

import click

from keras_transfer.cli.kit import output_options, overwrite_option, prepare, print_json


@click.group()
def gan() -> None:
    """Make images with a generator that `train --task gan` has trained."""


@gan.command()
@click.argument("run")
@click.option("--count", default=64, show_default=True, metavar="N", help="How many.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same images.")
@click.option("--class", "class_name", metavar="NAME", help="Of which class (default: all in turn).")
@click.option("--output", "-o", required=True, metavar="DIR", help="A new or empty folder.")
@output_options
def generate(
    run: str, count: int, seed: int, class_name: str | None, output: str, as_json: bool, quiet: bool
) -> None:
    """Write N images as PNG files into class folders of DIR, and a contact sheet.

    RUN is a run folder. Every file says in its metadata that it is synthetic. A class folder can be added to the
    data of
    a classifier.
    """
    prepare(quiet)
    from keras_transfer_gan.generating import generate_images

    found = generate_images(run, Path(output), count=count, seed=seed, class_name=class_name)
    if as_json:
        print_json(found)
    else:
        click.echo(f"{found['images']} images in {', '.join(found['folders'])}; {found['contact_sheet']}")


@gan.command()
@click.argument("run")
@click.option("--steps", default=9, show_default=True, metavar="N", help="Images from one end to the other.")
@click.option("--rows", default=6, show_default=True, metavar="N", help="How many pairs of end points.")
@click.option("--seed", default=0, show_default=True, help="Seed of the end points.")
@click.option("--class", "class_name", metavar="NAME", help="Of which class (default: all in turn).")
@click.option("--output", "-o", required=True, metavar="FILE", help="The PNG, GIF or WebP to write.")
@overwrite_option
@output_options
def interpolate(
    run: str,
    steps: int,
    rows: int,
    seed: int,
    class_name: str | None,
    output: str,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Draw the way from one image to another through the noise: strips (PNG), or an animation (GIF, WebP)."""
    prepare(quiet)
    from keras_transfer_gan.generating import interpolate_images

    found = interpolate_images(
        run, Path(output), steps=steps, rows=rows, seed=seed, class_name=class_name, overwrite=overwrite
    )
    if as_json:
        print_json(found)
    else:
        click.echo(f"{found['rows']} strips of {found['steps']} images: {found['file']}")
