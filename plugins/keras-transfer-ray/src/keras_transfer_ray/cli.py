"""``keras-transfer ray``: features, predictions and checks of many images on a cluster. Light."""

from __future__ import annotations

import dataclasses
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
from keras_transfer.options import from_dict
from keras_transfer.settings import DataSettings, ModelSettings
from keras_transfer_ray.settings import ClusterSettings, VectorSettings

output_option = click.option(
    "--output",
    "-o",
    required=True,
    metavar="DIR",
    help="Folder or address (s3://...) for the results, which every machine reaches.",
)
seed_option = click.option("--seed", default=0, show_default=True, help="Fixes the splits.")


def _groups(values: dict[str, Any], *groups: type) -> list[Any]:
    return [
        from_dict(group, {field.name: values[field.name] for field in dataclasses.fields(group)})
        for group in groups
    ]


@click.group()
def ray() -> None:
    """Many images on many machines: features, predictions and checks by the workers of a Ray cluster."""


@ray.command()
@click.argument("data")
@output_option
@seed_option
@options_of(ClusterSettings, VectorSettings, ModelSettings, DataSettings)
@overwrite_option
@offline_option
@output_options
def features(
    data: str,
    output: str,
    seed: int,
    overwrite: bool,
    offline: bool,
    as_json: bool,
    quiet: bool,
    **values: Any,
) -> None:
    """Compute features of the images in DATA; `train DATA --features DIR` learns from them.

    An interrupted call goes on where it stopped when it is given again.

    \b
    keras-transfer ray features photos/ --output features
    keras-transfer ray features photos/ --address 10.0.0.1:6379 --workers 32 --output s3://bucket/features
    """
    cluster, *others = _groups(values, ClusterSettings, VectorSettings, ModelSettings, DataSettings)
    prepare(quiet, offline)
    from keras_transfer_ray.features import features as run

    found = run(
        data,
        output,
        vectors=others[0],
        model=others[1],
        data=others[2],
        cluster=cluster,
        seed=seed,
        overwrite=overwrite,
    )
    facts = {"output": output, **found.to_dict()}
    if as_json:
        print_json(facts)
        return
    click.echo(
        f"{facts['images']} images, {facts['dimensions']} features each, {facts['skipped']} files left out."
    )
    _done(facts)


@ray.command()
@click.argument("model")
@click.argument("data")
@output_option
@click.option("--top", default=5, show_default=True, metavar="K", help="How many classes to list.")
@options_of(ClusterSettings)
@overwrite_option
@offline_option
@output_options
@click.pass_context
def predict(
    ctx: click.Context,
    model: str,
    data: str,
    output: str,
    top: int,
    overwrite: bool,
    offline: bool,
    as_json: bool,
    quiet: bool,
    **values: Any,
) -> None:
    """Ask MODEL (a run folder, or a .tflite of a bundle) about all images in DATA: DIR/predictions.jsonl.

    A file that cannot be read is told there and the others are answered; the exit code is then 1.

    \b
    keras-transfer ray predict run photos/ --output answers
    """
    (cluster,) = _groups(values, ClusterSettings)
    prepare(quiet, offline)
    from keras_transfer_ray.predicting import predict as run

    found = run(model, data, output, top=top, cluster=cluster, overwrite=overwrite)
    facts = {"output": output, **found.to_dict()}
    if as_json:
        print_json(facts)
    else:
        click.echo(f"{facts['images']} images, {facts['unreadable']} of them cannot be read.")
        _done(facts)
    if found.unreadable:
        ctx.exit(1)


@ray.command()
@click.argument("data")
@output_option
@seed_option
@options_of(ClusterSettings, ModelSettings, DataSettings)
@overwrite_option
@offline_option
@output_options
def check(
    data: str,
    output: str,
    seed: int,
    overwrite: bool,
    offline: bool,
    as_json: bool,
    quiet: bool,
    **values: Any,
) -> None:
    """Find wrong labels, copies, leaks, outliers, shortcuts and bad files in DATA. Nothing is changed.

    The workers read and look at every file; this process compares them.

    \b
    keras-transfer ray check photos/ --output report
    """
    cluster, model, settings = _groups(values, ClusterSettings, ModelSettings, DataSettings)
    prepare(quiet, offline)
    from keras_transfer.checking.issues import KINDS
    from keras_transfer_ray.checking import check as run

    found, outcome = run(
        data, output, model=model, data=settings, cluster=cluster, seed=seed, overwrite=overwrite
    )
    if as_json:
        print_json({**found.to_dict(), **outcome.to_dict()})
        return
    print_table(
        ("issue", "count", "severity"),
        [(kind, count, KINDS[kind].severity) for kind, count in found.counts().items()],
    )
    click.echo(f"{len(found.issues)} findings on {len(found.table)} images.")
    _done({"output": output, **outcome.to_dict()})


def _done(facts: dict[str, Any]) -> None:
    kept = facts["shards"] - facts["computed_shards"]
    before = f", {kept} were there" if kept else ""
    click.echo(
        f"{facts['computed_shards']} shards computed by {facts['workers']} workers in {facts['seconds']:.1f} s"
        f"{before}: {facts['output']}"
    )
