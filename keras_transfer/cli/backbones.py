"""``keras-transfer backbones``."""

from __future__ import annotations

import dataclasses

import click

from keras_transfer.backbone_specs import all_specs, get_spec
from keras_transfer.cli.kit import print_json


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def backbones(name: str | None, as_json: bool) -> None:
    """List the networks, or show everything about NAME."""
    if name is not None:
        spec = get_spec(name)
        facts = dataclasses.asdict(spec)
        if as_json:
            print_json(facts)
        else:
            for key, value in facts.items():
                shown = ", ".join(map(str, value)) if isinstance(value, (tuple, list)) else value
                click.echo(f"{key.replace('_', ' ') + ':':<16} {shown}")
        return
    specs = all_specs()
    if as_json:
        print_json([dataclasses.asdict(spec) for spec in specs])
        return
    lines = [("name", "parameters", "features", "size", "smallest", "input", "weights")]
    lines += [
        (
            spec.name,
            f"{spec.params / 1e6:.1f} M",
            str(spec.feature_dim),
            str(spec.default_size),
            str(spec.min_size),
            spec.input_mode,
            "ImageNet" if spec.pretrained else "none",
        )
        for spec in specs
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        cells = [
            cell.ljust(width) if i in (0, 5, 6) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip())
