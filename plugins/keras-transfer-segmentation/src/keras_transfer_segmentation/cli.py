"""``keras-transfer segment``: masks as files."""

from __future__ import annotations

from pathlib import Path

import click

from keras_transfer.cli.kit import offline_option, output_options, overwrite_option, prepare, print_json


@click.command()
@click.argument("model")
@click.argument("images", nargs=-1, required=True)
@click.option("--output", "-o", required=True, metavar="DIR", help="Folder for the masks.")
@overwrite_option
@click.option(
    "--tile", is_flag=True, help="Cut large images into overlapping tiles instead of shrinking them."
)
@click.option(
    "--overlap", default=0.5, show_default=True, help="Share of a tile that its neighbour covers, too."
)
@click.option("--overlays", is_flag=True, help="Write the image with its mask laid over it, too.")
@click.option("--probabilities", is_flag=True, help="Write the probabilities, too: .npy, float32 (H, W, C).")
@offline_option
@output_options
def segment(
    model: str,
    images: tuple[str, ...],
    output: str,
    overwrite: bool,
    tile: bool,
    overlap: float,
    overlays: bool,
    probabilities: bool,
    offline: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write the mask of each of IMAGES as a palette PNG of the image's size, and print the area of each class.

    MODEL is a run folder or a file of a bundle. IMAGES are files or folders.
    """
    prepare(quiet, offline)
    from keras_transfer_segmentation.segmenting import segment_files

    found = list(
        segment_files(
            model,
            images,
            Path(output),
            tile=tile,
            overlap=overlap,
            overlays=overlays,
            probabilities=probabilities,
            overwrite=overwrite,
        )
    )
    if as_json:
        print_json(found)
    else:
        for one in found:
            told = one.get("error") or ", ".join(
                f"{name} {share:.1f} %" for name, share in one["areas"].items()
            )
            click.echo(f"{one['path']}: {told}")
    if any("error" in one for one in found):
        raise SystemExit(1)
