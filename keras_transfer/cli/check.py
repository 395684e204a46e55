"""``keras-transfer check``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from keras_transfer.cli.kit import (
    offline_option,
    options_of,
    output_options,
    overwrite_option,
    prepare,
    print_json,
    print_table,
)
from keras_transfer.engine_choice import require_engine
from keras_transfer.settings import DataSettings, EngineSettings, ModelSettings


@click.command()
@click.argument("data")
@click.option("--output", "-o", metavar="FOLDER", help="Write report.html, issues.csv and groups.csv there.")
@click.option("--write", metavar="FILE", help="Write a CSV without the images of --drop, for `train`.")
@click.option("--drop", multiple=True, metavar="ISSUE", help="With --write: leave these out (repeatable).")
@click.option("--seed", default=0, show_default=True, help="Fixes the splits and the folds.")
@overwrite_option
@options_of(EngineSettings, ModelSettings, DataSettings)
@offline_option
@output_options
def check(
    data: str,
    output: str | None,
    write: str | None,
    drop: tuple[str, ...],
    seed: int,
    overwrite: bool,
    engine: str,
    engine_precision: str,
    offline: bool,
    as_json: bool,
    quiet: bool,
    **values: Any,
) -> None:
    """Find wrong labels, copies, leaks, outliers, shortcuts and bad files in DATA. Nothing is changed.

    \b
    keras-transfer check photos/ --output report
    keras-transfer check photos/ --write cleaned.csv --drop label-errors --drop near-duplicates
    """
    if bool(drop) != (write is not None):
        raise click.UsageError(
            "--write FILE and --drop ISSUE go together: what is left out, and of which file."
        )
    require_engine(EngineSettings(engine, engine_precision))
    prepare(quiet, offline)
    from keras_transfer.options import from_dict
    from keras_transfer.workflow.check import check as run_check
    from keras_transfer.workflow.check import check_places, cleaned_places, left_out_of

    check_places(output, data, overwrite)
    if write is not None:
        cleaned_places(Path(write), drop, data, overwrite)
    groups = [
        from_dict(group, {field.name: values[field.name] for field in dataclasses.fields(group)})
        for group in (ModelSettings, DataSettings)
    ]
    found = run_check(
        data, model=groups[0], data=groups[1], engine=engine, engine_precision=engine_precision, seed=seed
    )
    page = found.write_report(output, overwrite=overwrite) if output is not None else None
    left_out = found.write_cleaned(write, drop, overwrite=overwrite) if write is not None else {}
    if as_json:
        print_json({**found.to_dict(), "left_out": left_out})
        return
    _show(found)
    if page is not None:
        click.echo(f"Report: {page}")
    if write is not None:
        root = found.needs_root(write)
        told = ", ".join(f"{count} {kind}" for kind, count in left_out.items()) or "nothing"
        click.echo(f"Cleaned: {write} (left out: {told}; see {left_out_of(Path(write))})")
        click.echo(
            f"  keras-transfer train {write}" + ("" if root is None else f" --image-root {root}") + " -o run"
        )


def _show(found: Any) -> None:
    from keras_transfer.checking.issues import KINDS

    counts = found.counts()
    if not counts:
        click.echo(f"{len(found.table)} images: nothing was found.")
        return
    first: dict[str, Any] = {}
    for one in found.issues:
        first.setdefault(one.kind, one)
    rows = [
        (kind, count, KINDS[kind].severity, f"{first[kind].path}: {first[kind].text}")
        for kind, count in counts.items()
    ]
    print_table(("issue", "count", "severity", "the worst of them"), rows)
    high = sum(one.severity == "high" for one in found.issues)
    click.echo(f"{len(found.issues)} findings on {len(found.table)} images, {high} of them of high severity.")
