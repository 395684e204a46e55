"""``keras-transfer similar``."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from keras_transfer.cli.kit import (
    offline_option,
    options_of,
    output_options,
    overwrite_option,
    picture_file,
    prepare,
    print_json,
)
from keras_transfer.engine_choice import require_engine
from keras_transfer.outputs import Outputs
from keras_transfer.settings import EngineSettings, FeatureSettings, ModelSettings

_SHOWN = 20


@click.command()
@click.argument("folder")
@click.argument("queries", nargs=-1, metavar="[QUERY]...")
@click.option("--top", default=8, show_default=True, metavar="K", help="How many images to list.")
@click.option(
    "--duplicates",
    default=0.97,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Similarity from which two images are near-duplicates.",
)
@click.option(
    "--output", "-o", metavar="FILE", callback=picture_file, help="Draw a contact sheet (PNG, SVG or PDF)."
)
@overwrite_option
@options_of(EngineSettings, ModelSettings)
@click.option("--layer", metavar="NAME", help="A layer's name, or P2 to P5 (default: the last map).")
@offline_option
@output_options
def similar(
    folder: str,
    queries: tuple[str, ...],
    top: int,
    duplicates: float,
    output: str | None,
    overwrite: bool,
    engine: str,
    engine_precision: str,
    layer: str | None,
    offline: bool,
    as_json: bool,
    quiet: bool,
    **values: Any,
) -> None:
    """Find the images in FOLDER that look most like each QUERY, and list near-duplicates in FOLDER.

    Images are compared by the cosine similarity of a pretrained network's features, which are kept in the cache.
    """
    if output is not None and not queries:
        raise click.UsageError("--output draws the answers to a QUERY; none was given.")
    require_engine(EngineSettings(engine, engine_precision))
    places = Outputs([folder, *queries], overwrite=overwrite)
    if output is not None:
        places.check(output)
    prepare(quiet, offline)
    from keras_transfer.options import from_dict
    from keras_transfer.workflow.similar import find_similar

    fields = [field.name for field in dataclasses.fields(ModelSettings)]
    found = find_similar(
        folder,
        queries,
        top=top,
        duplicates=duplicates,
        model=from_dict(ModelSettings, {name: values[name] for name in fields}),
        features=FeatureSettings(layer=layer),
        engine=engine,
        engine_precision=engine_precision,
    )
    if output is not None:
        from keras_transfer.evaluation.plots_similar import similar_sheet

        with places.writing(output) as place:
            similar_sheet(found.queries, found.preprocessing, place)
    if as_json:
        print_json(found.to_dict())
        return
    for query in found.queries:
        click.echo(f"{query['path']}:")
        for near in query["nearest"]:
            click.echo(f"  {near['similarity']:.3f}  {near['path']}")
    click.echo(
        f"{len(found.duplicates)} near-duplicates among {found.images} images (similarity {duplicates:g} or more)"
    )
    for pair in found.duplicates[:_SHOWN]:
        mark = "identical" if pair["identical"] else f"{pair['similarity']:.3f}"
        click.echo(f"  {mark}  {pair['first']}  {pair['second']}")
    if len(found.duplicates) > _SHOWN:
        click.echo(f"  and {len(found.duplicates) - _SHOWN} more; --json lists all")
    if output is not None:
        click.echo(f"Contact sheet: {output}")
