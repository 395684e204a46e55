"""``keras-transfer siamese``: enrol, match, verify, and look after galleries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from keras_transfer.cli.kit import (
    output_options,
    overwrite_option,
    plot_option,
    prepare,
    print_json,
    print_table,
)
from keras_transfer.outputs import Outputs

model_option = click.option(
    "--model",
    metavar="MODEL",
    help="A run, a bundle or a model file. By default where the gallery says it was.",
)
threshold_option = click.option(
    "--threshold",
    type=float,
    metavar="X",
    help="Score from which images show the same (default: the recorded one).",
)


@click.group()
def siamese() -> None:
    """Recognise what was seen once: enrol images under names, then ask which name an image shows."""


@siamese.command()
@click.argument("gallery")
@click.argument("images", nargs=-1)
@click.option("--name", metavar="WHO", help="Who or what IMAGES show.")
@click.option("--from", "folder", metavar="FOLDER", help="Enrol a folder with one folder of images per name.")
@model_option
@click.option("--add", is_flag=True, help="Add images to a name that is enrolled already.")
@click.option(
    "--threshold",
    type=float,
    metavar="X",
    help="For a new gallery: score from which images show the same (default: the model's).",
)
@click.option(
    "--tta",
    "views",
    default=1,
    show_default=True,
    metavar="N",
    help="Average over N views of each image (2: its mirror image, too; from 3: crops; up to 12).",
)
@output_options
def enroll(
    gallery: str,
    images: tuple[str, ...],
    name: str | None,
    folder: str | None,
    model: str | None,
    add: bool,
    threshold: float | None,
    views: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Enrol IMAGES (files or folders) under a name, or a whole FOLDER, into the file GALLERY.

    A gallery that does not exist is made, bound to MODEL. Nothing is trained. A file that cannot be used is reported
    and the others are enrolled; the exit code is then 1.
    """
    if (name is None) == (folder is None) or bool(images) != (folder is None):
        raise click.UsageError("Give IMAGE... with --name WHO, or --from FOLDER alone.")
    prepare(quiet)
    from keras_transfer_siamese import recognising

    how: dict[str, Any] = {"model": model, "add": add, "threshold": threshold, "views": views}
    if folder is not None:
        found = list(recognising.enroll_folder(gallery, folder, **how))
    else:
        assert name is not None
        found = [recognising.enroll(gallery, images, name, **how)]
    if as_json:
        print_json([one.to_dict() for one in found])
    for one in found:
        for wrong in one.errors:
            click.echo(f"{wrong['path']}: {wrong['error']}", err=True)
        if not as_json:
            already = f", {one.already} enrolled before" if one.already else ""
            click.echo(f"{one.name}: {one.new} enrolled{already}")
    if any(one.errors for one in found):
        raise SystemExit(1)


@siamese.command()
@click.argument("gallery")
@click.argument("images", nargs=-1, required=True)
@model_option
@click.option("--top", default=3, show_default=True, metavar="K", help="How many names to list.")
@threshold_option
@click.option(
    "--score",
    type=click.Choice(["best", "mean"]),
    default="best",
    show_default=True,
    help="For a name with several images: the score of the most similar, or the mean of the three most similar.",
)
@click.option(
    "--engine",
    type=click.Choice(["auto", "exact", "index"]),
    default="auto",
    show_default=True,
    help="Compare every entry, or the candidates of an index; auto: the index above 100,000, where it is installed.",
)
@plot_option
@overwrite_option
@output_options
def match(
    gallery: str,
    images: tuple[str, ...],
    model: str | None,
    top: int,
    threshold: float | None,
    score: str,
    engine: str,
    plot: str | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Print which enrolled name each of IMAGES (files or folders) shows, or "unknown".

    A file that cannot be used is reported and the others are answered; the exit code is then 1.
    """
    places = Outputs([gallery, *images], overwrite=overwrite, option="--plot")
    if plot is not None:
        places.check(plot)
    prepare(quiet)
    from keras_transfer_siamese import recognising

    results, unusable = [], 0
    answers = recognising.match(
        gallery, images, model=model, top=top, threshold=threshold, score=score, engine=engine
    )
    for answer in answers:
        unusable += "error" in answer
        results.append(answer)
        if as_json:
            continue
        if "error" in answer:
            click.echo(f"{answer['path']}: {answer['error']}", err=True)
        else:
            click.echo(f"{answer['path']}: {_told(answer)}")
    if plot is not None:
        from keras_transfer_siamese.sheet import match_sheet

        with places.writing(plot) as place:
            match_sheet(results, place)
    if as_json:
        print_json(results)
    if unusable:
        raise SystemExit(1)


def _told(answer: dict[str, Any]) -> str:
    rows = [f"{row['name']} {row['score']:.3f}" for row in answer["candidates"]]
    if answer["name"] is None:
        return f"unknown (nearest: {', '.join(rows)})"
    return rows[0] + (f" (then: {', '.join(rows[1:])})" if rows[1:] else "")


@siamese.command()
@click.argument("model")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@threshold_option
@output_options
def verify(model: str, first: str, second: str, threshold: float | None, as_json: bool, quiet: bool) -> None:
    """Print whether the images A and B show the same. MODEL is a run, a bundle or a model file."""
    prepare(quiet)
    from keras_transfer_siamese import recognising

    answer = recognising.verify(model, first, second, threshold=threshold)
    if as_json:
        print_json(answer)
    else:
        told = "same" if answer["same"] else "different"
        click.echo(
            f"{told}: {answer['comparison']} {answer['score']:.3f}, threshold {answer['threshold']:.3f}"
        )


@siamese.group()
def gallery() -> None:
    """Look into galleries, remove names, and take galleries elsewhere."""


@gallery.command("list")
@click.argument("path", metavar="GALLERY")
@output_options
def list_(path: str, as_json: bool, quiet: bool) -> None:
    """List the names in GALLERY, and what it is bound to."""
    prepare(quiet, tensorflow=False)
    from keras_transfer_siamese.gallery import open_gallery

    with open_gallery(path) as opened:
        names, binding = opened.names(), opened.binding
    if as_json:
        print_json({"path": path, "names": names, **binding.to_dict()})
        return
    comparison, identity = binding.comparison, binding.identity
    threshold = "no threshold" if comparison.threshold is None else f"threshold {comparison.threshold:.3f}"
    click.echo(
        f"{path}: model {identity.told()}, {binding.dimension} numbers, {comparison.kind}, {threshold}"
    )
    print_table(["name", "images"], list(names.items()))


@gallery.command("remove")
@click.argument("path", metavar="GALLERY")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@output_options
def remove(path: str, names: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Remove names with all their images from GALLERY."""
    prepare(quiet, tensorflow=False)
    from keras_transfer_siamese.gallery import open_gallery

    with open_gallery(path) as opened:
        removed = opened.remove(*names)
    if as_json:
        print_json(removed)
        return
    for name, count in removed.items():
        click.echo(f"{name}: {count} removed")


@gallery.command("export")
@click.argument("path", metavar="GALLERY")
@click.option(
    "--to", required=True, metavar="TARGET", help="A .json, .npz or .bin file, or the folder of a bundle."
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@output_options
def export(path: str, to: str, overwrite: bool, as_json: bool, quiet: bool) -> None:
    """Write GALLERY as JSON, as NumPy arrays or for programs on a device, or put it into a bundle of its model.

    In a bundle `python classify.py --match IMAGE` and the code in `clients/` (as gallery.bin) use it, and
    `keras-transfer verify` checks it.
    """
    target = Path(to)
    prepare(quiet, tensorflow=target.is_dir())
    from keras_transfer_siamese.exporting import export_gallery

    written = export_gallery(path, target, overwrite=overwrite)
    if as_json:
        print_json({"path": str(written)})
    else:
        click.echo(f"Wrote {written}")
