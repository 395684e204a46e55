"""``keras-transfer join``."""

from __future__ import annotations

import click

from keras_transfer.cli.kit import output_options, overwrite_option, prepare, print_json


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE SOURCE...")
@click.option("--output", "-o", required=True, metavar="FILE", help="The CSV to write.")
@click.option("--image-root", metavar="DIR", help="What paths in annotations and CSV files are relative to.")
@overwrite_option
@output_options
def join(
    sources: tuple[str, ...],
    output: str,
    image_root: str | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Join labelled images of several sources in one CSV for `train`.

    A SOURCE is a run (its data, with their splits) or what `train` takes. Images of other sources than runs are
    training images, unless their source tells splits.

    \b
    keras-transfer join run project.json --image-root unlabelled/ --output all.csv
    """
    prepare(quiet)
    from keras_transfer.workflow.join import join as run_join

    found = run_join(sources, output, image_root=image_root, overwrite=overwrite)
    if as_json:
        print_json(found.to_dict())
        return
    told = ", ".join(f"{count} of {source}" for source, count in found.images.items())
    known = f" ({found.known} more were known already)" if found.known else ""
    click.echo(f"{sum(found.images.values())} images in {found.path}: {told}{known}")
    root = "" if found.image_root is None else f" --image-root {found.image_root}"
    click.echo(f"  keras-transfer train {found.path}{root} -o second")
