"""``keras-transfer pick``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from keras_transfer.cli.kit import (
    offline_option,
    output_options,
    overwrite_option,
    prepare,
    print_json,
    print_table,
    run_data_option,
)

_SHOWN = 10


@click.command()
@click.argument("run")
@click.argument("pool", nargs=-1, required=True, metavar="POOL...")
@click.option("--count", "-n", required=True, type=int, metavar="N", help="How many images to pick.")
@click.option(
    "--by",
    metavar="WAY",
    help="margin, entropy, confidence: the model's doubt; gradient (BADGE); spread: far from labelled images "
    "(default: margin; of numbers: spread).",
)
@click.option(
    "--candidates",
    default=10,
    show_default=True,
    metavar="K",
    help="Choose among the K x N most doubtful images; 1: take those.",
)
@run_data_option
@click.option(
    "--output", "-o", metavar="FOLDER", help="Write a table, a contact sheet and Label Studio's tasks there."
)
@overwrite_option
@click.option("--seed", default=0, show_default=True, help="Fixes the choice among images that are alike.")
@offline_option
@output_options
def pick(
    run: str,
    pool: tuple[str, ...],
    count: int,
    by: str | None,
    candidates: int,
    data: str | None,
    output: str | None,
    overwrite: bool,
    seed: int,
    offline: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Pick the images of POOL whose labels would teach the model in RUN most.

    POOL: files, folders, archives, parquet, or CSV files with a column path. Picked are images that the model doubts,
    different from one another. Images of the run are left out, and so are near-duplicates.

    \b
    keras-transfer pick run unlabelled/ --count 50 --output picks
    """
    prepare(quiet, offline)
    from keras_transfer.workflow.pick import pick as run_pick
    from keras_transfer.workflow.picked import pick_places

    if output is not None:
        pick_places(Path(output), (run, *pool), overwrite)
    found = run_pick(run, pool, count=count, by=by, candidates=candidates, data=data, seed=seed)
    written = found.write(output, overwrite=overwrite) if output is not None else []
    if as_json:
        print_json(found.to_dict())
        return
    _show(found)
    for path in written:
        click.echo(f"Written: {path}")
    if written:
        click.echo(f"Paths in them begin at {found.root} (--image-root when they are trained on).")


def _show(found: Any) -> None:
    def shown(value: float | None) -> str:
        return "" if value is None else f"{value:.3f}"

    rows = [
        (rank, shown(one.score), ", ".join(one.expected), one.second, shown(one.margin), one.path)
        for rank, one in enumerate(found.picks[:_SHOWN], 1)
    ]
    print_table(("rank", "score", "expected", "second", "margin", "image"), rows)
    if len(found.picks) > _SHOWN:
        click.echo(f"and {len(found.picks) - _SHOWN} more; --json lists all")
    near = f"; {found.near} near-duplicates were passed over" if found.near else ""
    click.echo(f"{len(found.picks)} of {found.images} images are picked by {found.by}{near}.")
