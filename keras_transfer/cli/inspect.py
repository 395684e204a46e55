"""``keras-transfer inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from keras_transfer.cli.kit import prepare, print_json, print_table, size_of
from keras_transfer.export.inspection import FileFacts, inspect_file
from keras_transfer.export.targets.readiness import judge
from keras_transfer.export.targets.specs import all_targets, target_spec


@click.command()
@click.argument("file")
@click.option(
    "--target", "names", multiple=True, metavar="NAME", help="Only these targets (repeatable; default: all)."
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def inspect(file: str, names: tuple[str, ...], as_json: bool) -> None:
    """Look into FILE, a .tflite of any origin: operators, number types, shapes, quantization.

    For each target it says whether its runtime takes the file, and why not: the rules of that runtime applied to the
    operators, each named with the layer it comes from. Nothing is run, and TensorFlow is not imported.
    """
    prepare(quiet=True, tensorflow=False)
    specs = [target_spec(name) for name in names] or all_targets()
    facts = inspect_file(Path(file))
    found = [judge(facts, spec) for spec in specs]
    if as_json:
        print_json({"file": file, **facts.to_dict(), "targets": [one.to_dict() for one in found]})
        return
    _print_facts(file, facts)
    rows = [(one.target, one.state, reason) for one in found for reason in (one.reasons or ("",))]
    first: set[str] = set()
    shown = []
    for target, state, reason in rows:
        shown.append(("", "", reason) if target in first else (target, state, reason))
        first.add(target)
    print_table(["target", "", "why"], shown)


def _print_facts(file: str, facts: FileFacts) -> None:
    content = facts.to_dict()
    click.echo(f"{file}: {size_of(facts.bytes)}, of which constants {size_of(facts.weights)}")
    click.echo(
        f"batch: {facts.batch}"
        + ("" if facts.subgraphs == 1 else f"; {facts.subgraphs} graphs (control flow)")
    )
    for kind in ("inputs", "outputs"):
        for tensor in content[kind]:
            click.echo(f"{kind[:-1]}: {_tensor(tensor)}")
    click.echo("computes on: " + _counts(content["types"]))
    click.echo("constants: " + _counts(content["weight_quantization"]))
    rows = [(row["name"], row["version"], row["count"]) for row in content["operators"]]
    print_table(["operator", "version", "count"], rows)


def _tensor(tensor: dict[str, Any]) -> str:
    points = tensor["zero_points"]
    point = f", zero point {points[0]}" if len(points) == 1 else ""
    how = "" if tensor["quantization"] == "none" else f", quantized {tensor['quantization']}{point}"
    return f"{tensor['name']} {tensor['type']} {tensor['shape']}{how}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in counts.items())
