"""How ``train --dry-run`` tells a plan."""

from __future__ import annotations

from typing import Any

import click

from keras_transfer.cli.kit import print_table

MOST_CLASSES = 40
"""Classes that are listed; of more the first ones."""
PARTS = {
    "extraction": "the features",
    "fitting": "the head fitted on them",
    "training": "the gradient training",
}
"""What of ``cost`` is told, and how it is called."""


def show_plan(plan: dict[str, Any], output: str | None) -> None:
    """Print what ``workflow.plan.plan_training`` gave; ``output`` is the run folder that was named, if one was."""
    _show_data(plan["data"])
    _show_network(plan)
    click.echo(f"Strategy: {plan['strategy']} ({plan['why']}).")
    if plan["plan"]:
        _show_phases(plan["plan"])
    else:
        _show_blocks(plan)
    click.echo(_cost(plan))
    click.echo(f"A training would write {output or 'RUN'}: {', '.join(plan['files'])}.")
    click.echo("Nothing was trained, and nothing written.")


def _show_data(data: dict[str, Any]) -> None:
    splits = ", ".join(f"{counts['images']} {split}" for split, counts in data["splits"].items())
    click.echo(f"{data['images']} images of {data['source']} ({splits}), {data['skipped']} skipped")
    counted = {
        split: counts["per_class"] for split, counts in data["splits"].items() if "per_class" in counts
    }
    classes = data["classes"]
    if classes and not counted:
        shown = ", ".join(classes[:MOST_CLASSES]) + (" ..." if len(classes) > MOST_CLASSES else "")
        click.echo(f"Classes: {shown}")
    elif classes:
        rows = [
            (name, *(str(counts[name]) for counts in counted.values())) for name in classes[:MOST_CLASSES]
        ]
        print_table(["class", *counted], rows)
        if len(classes) > MOST_CLASSES:
            click.echo(f"... and {len(classes) - MOST_CLASSES} classes more")


def _show_network(plan: dict[str, Any]) -> None:
    network, size = plan["network"], "x".join(map(str, plan["image_size"]))
    click.echo(f"{plan['backbone'] or 'No backbone: a network of its own'} at {size}")
    given, made = (" and ".join(map(_shape, network[name])) for name in ("inputs", "outputs"))
    click.echo(f"Network {network['name']}: {given} to {made}, {network['parameters']:,} parameters")


def _shape(shape: list[int | None]) -> str:
    return f"({', '.join('B' if place == 0 else str(side) for place, side in enumerate(shape))})"


def _show_phases(phases: list[dict[str, Any]]) -> None:
    for phase in phases:
        title = f"From epoch {phase['epoch']}: {phase['rule']}" if len(phases) > 1 else None
        if "network" in phase:
            title = f"The {phase['network']}"
        columns = ["block", "layers", "parameters", "trainable", "batch norm", "rate"]
        print_table(columns, [_cells(row) for row in phase["blocks"]], title)
        click.echo(f"{phase['trainable']:,} of {phase['parameters']:,} parameters train.")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["block"],
        str(row["layers"]),
        f"{row['parameters']:,}",
        f"{row['trainable']:,}" if row["trainable"] else "-",
        row["batchnorm"],
        f"{row['rate']:.3g}" if row["rate"] else "-",
    )


def _show_blocks(plan: dict[str, Any]) -> None:
    """Of a task that tells no plan: what the network is made of, and what stays as it is whatever the task does."""
    network, open_to = plan["network"], f"{plan['task']} decides"
    rows = []
    for row in network["blocks"]:
        stays = network["backbone_stays"] and row["backbone"]
        training = "-" if not row["parameters"] else "frozen" if stays else open_to
        rows.append((row["block"], str(row["layers"]), f"{row['parameters']:,}", training))
    print_table(["block", "layers", "parameters", "training"], rows)


def _cost(plan: dict[str, Any]) -> str:
    cost = plan["cost"]
    if cost["multiply_adds_per_image"] is None:
        return f"Cost: not known; a layer of {plan['task']} cannot be counted."
    text = f"Cost: {cost['multiply_adds_per_image'] / 1e9:.2f} G multiply-adds an image; "
    if cost["minutes_on_two_cores"] is None:
        return (
            f"{text}{_giga(cost['pass_multiply_adds'])} for one pass over all images, "
            f"{_minutes(cost['pass_minutes'])}. How many passes its training makes, {plan['task']} does not tell."
        )
    parts = {PARTS[name]: cost[f"{name}_multiply_adds"] for name in PARTS}
    known = ", ".join(f"{_giga(value)} for {part}" for part, value in parts.items() if value is not None)
    unknown = " and ".join(part for part, value in parts.items() if value is None)
    more = f"; not estimated: {unknown}" if unknown else ""
    return f"{text}{known}; {_minutes(cost['minutes_on_two_cores'])}{more}."


def _giga(value: int) -> str:
    return f"{value / 1e9:,.0f} G"


def _minutes(value: float) -> str:
    told = "under 0.1" if value < 0.05 else f"roughly {value:.1f}"
    return f"{told} minutes on two CPU cores"
