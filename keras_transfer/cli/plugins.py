"""``keras-transfer plugins``."""

from __future__ import annotations

import click

from keras_transfer.cli._common import print_json, print_table
from keras_transfer.plugins import task_statuses


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def plugins(as_json: bool) -> None:
    """List the installed tasks and whether they work.

    A task is ok, broken (it cannot be imported), incompatible (made for another contract) or duplicate.
    KERAS_TRANSFER_PLUGINS=a,b considers only the plugins named.
    """
    statuses = [status.to_dict() for status in task_statuses()]
    if as_json:
        print_json(statuses)
        return
    rows = [
        (
            row["name"],
            row["state"],
            row["reason"] or row["summary"],
            f"{row['distribution']} {row['version']}".strip(),
        )
        for row in statuses
    ]
    print_table(["task", "state", "", "from"], rows)
