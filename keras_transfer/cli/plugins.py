"""``keras-transfer plugins``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from keras_transfer import progress
from keras_transfer.backbone_specs import BACKBONES, WEIGHTS
from keras_transfer.cli.commands import COMMANDS
from keras_transfer.cli.kit import offline_option, output_options, prepare, print_json, print_table
from keras_transfer.discovery import statuses
from keras_transfer.export.targets.specs import TARGETS
from keras_transfer.tasks.specs import TASKS

POINTS = (TASKS, COMMANDS, BACKBONES, WEIGHTS, TARGETS)


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_context
def plugins(ctx: click.Context, as_json: bool) -> None:
    """List what is installed and whether it works: tasks, verbs, backbones, weights, targets.

    A plugin is ok, broken (it cannot be imported), incompatible (made for another contract) or duplicate.
    KERAS_TRANSFER_PLUGINS=a,b considers only the plugins named.
    """
    if ctx.invoked_subcommand is not None:
        return
    found = [{"kind": point.kind, **status.to_dict()} for point in POINTS for status in statuses(point)]
    if as_json:
        print_json(found)
        return
    rows = [
        (
            row["kind"],
            row["name"],
            row["state"],
            row["reason"] or row["summary"],
            f"{row['distribution']} {row['version']}".strip(),
        )
        for row in found
    ]
    print_table(["kind", "name", "state", "", "from"], rows)


@plugins.command()
@click.argument("name")
@click.option("--data", metavar="DATA", help="A task: train on these images (default: its own sample).")
@click.option(
    "--backbone", metavar="NAME", help="A task: train it on this backbone (default: that of train)."
)
@offline_option
@output_options
@click.pass_context
def check(
    ctx: click.Context,
    name: str,
    data: str | None,
    backbone: str | None,
    offline: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Check NAME against everything that the core expects of it; exit code 1 when one check fails.

    NAME is a task, a backbone, a verb, a target, or a backbone that a package gives weights for. Where it is several of
    these, each is checked. Where an exception of the plugin's own breaks a promise, its traceback follows on standard
    error.
    """
    as_json = as_json or (ctx.parent is not None and bool(ctx.parent.params.get("as_json")))
    prepare(True, offline)  # the trainings' own messages tell nothing here
    from keras_transfer.testing import Kit

    progress.enable(not quiet and sys.stderr.isatty())
    kit = Kit(
        name,
        data=None if data is None else lambda folder: Path(data),
        settings=None if backbone is None else {"backbone": backbone},
    )
    results = list(progress.track(kit.results(), "Checking", len(kit.checks)))
    if as_json:
        print_json([result.to_dict() for result in results])
    else:
        rows = [(one.kind, one.check, one.state, one.reason) for one in results]
        print_table(["kind", "check", "", ""], rows)
        for one in results:
            if one.traceback and not quiet:
                click.echo(f"\n{one.check}:\n{one.traceback}", err=True)
    if any(one.state == "failed" for one in results):
        raise SystemExit(1)
