"""``keras-transfer replay``."""

from __future__ import annotations

import click

from keras_transfer.cli.kit import offline_option, output_options, prepare, print_json, print_table


@click.command()
@click.argument("run")
@click.option("--output", "-o", metavar="RUN", help="Keep the repeated run here (default: it is deleted).")
@offline_option
@output_options
@click.pass_context
def replay(
    ctx: click.Context, run: str, output: str | None, offline: bool, as_json: bool, quiet: bool
) -> None:
    """Train RUN again from its run.json, and compare. Exit code 1 when anything differs."""
    prepare(quiet, offline)
    from keras_transfer.workflow.replay import replay as repeat

    result = repeat(run, output=output)
    if as_json:
        print_json(result)
    else:
        rows = [
            (name, "identical" if result[name] else "DIFFERENT") for name in ("split", "history", "weights")
        ]
        rows.append(("metrics", "DIFFERENT" if result["metrics"] else "identical"))
        print_table(["what", "this time"], rows)
        if result["largest_weight_difference"]:
            click.echo(f"Largest difference of a weight: {result['largest_weight_difference']:.3g}")
        for name, (first, now) in result["versions"].items():
            click.echo(f"{name} was {first or 'not installed'}, is {now or 'not installed'}.")
    ctx.exit(0 if result["identical"] else 1)
