"""``keras-transfer targets``."""

from __future__ import annotations

from typing import Any

import click

from keras_transfer.cli.kit import print_json, print_table
from keras_transfer.discovery import statuses
from keras_transfer.export.targets.specs import TARGETS, TargetSpec, target_spec


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def targets(as_json: bool) -> None:
    """List the runtimes that an export can be made for, and what is installed of what they need.

    "export": files are made and proven there (export --target NAME). "rules": inspect says whether it takes a file.
    """
    rows = []
    for status in statuses(TARGETS):
        row: dict[str, Any] = {
            **status.to_dict(),
            "package": "",
            "installed": None,
            "install": "",
            "makes": False,
            "precisions": [],
        }
        if status.state == "ok":
            row.update(_facts(target_spec(status.entry.name)))
        rows.append(row)
    if as_json:
        print_json(rows)
        return
    print_table(
        ["target", "", "", "needs", ""],
        [
            (
                row["name"],
                row["summary"] if row["state"] == "ok" else f"{row['state']}: {row['reason']}",
                "export" if row["makes"] else "rules",
                row["package"] or "-",
                row["installed"] or row["install"],
            )
            for row in rows
        ],
    )


def _facts(spec: TargetSpec) -> dict[str, Any]:
    precisions = [
        "all-integer int8" if spec.all_integer and one == "int8" else one for one in spec.precisions
    ]
    version = spec.installed
    return {
        "precisions": precisions,
        "makes": bool(spec.factory),
        "package": spec.package,
        "installed": version,
        "install": spec.command if version is None else "",
    }
