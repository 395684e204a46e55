"""``keras-transfer verify``."""

from __future__ import annotations

import click

from keras_transfer.cli.kit import (
    output_options,
    prepare,
    print_json,
    print_table,
    set_option,
)
from keras_transfer.wording import percent, score


@click.command()
@click.argument("bundle")
@click.argument("data", required=False)
@click.option(
    "--split", type=click.Choice(["train", "val", "test", "all"]), help="Which images of DATA to measure on."
)
@set_option
@output_options
@click.pass_context
def verify(
    ctx: click.Context,
    bundle: str,
    data: str | None,
    split: str | None,
    changes: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """Check BUNDLE again: every file's hash, and its golden images through every artefact.

    With DATA (a folder, a CSV or tfds:NAME) every artefact is measured on those images, too. Exit code 1 when
    anything differs by more than it may.
    """
    if split and not data:
        raise click.UsageError("--split chooses among the images of DATA; give DATA, too.")
    if changes and not data:
        raise click.UsageError("--set changes how DATA are measured; give DATA, too.")
    prepare(quiet)
    from keras_transfer.workflow.verify import verify as verify_bundle

    result = verify_bundle(bundle, data, split=split, task_options=changes).to_dict()
    if as_json:
        print_json(result)
    else:
        columns = ["artefact", "precision", "golden diff.", "allowed"]
        if data:
            metrics = result["metrics"][:2]
            columns += [*(name.replace("_", " ") for name in metrics), "agreement"]
        rows = []
        for row in result["artefacts"]:
            difference = "-" if row["difference"] is None else f"{row['difference']:.1e}"
            cells = [row["file"], row["precision"], difference, f"{row['tolerance']:g}"]
            if data:
                cells += [*(score(name, row.get(name)) for name in metrics), percent(row.get("agreement"))]
            rows.append([*cells, "ok" if row["passed"] else "FAILED"])
        print_table([*columns, ""], rows)
        click.echo(
            f"{result['files']} files as exported; {result['golden']} golden images, pixels "
            + (
                "identical."
                if not result["pixel_difference"]
                else f"within {result['pixel_difference']} of 255."
            )
        )
        if data:
            click.echo(
                f"Measured on {result['data']['images']} images ({result['data']['split']}) of {data}."
            )
    for reason in result["reasons"]:
        click.echo(reason, err=True)
    for row in result["artefacts"]:
        for reason in row["reasons"]:
            click.echo(f"{row['file']}: {reason}", err=True)
    if not result["passed"]:
        ctx.exit(1)
