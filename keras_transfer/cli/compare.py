"""``keras-transfer compare``."""

from __future__ import annotations

from typing import Any

import click

from keras_transfer.cli.kit import (
    click_option,
    offline_option,
    options_of,
    output_options,
    overwrite_option,
    prepare,
    print_json,
    print_table,
    size_of,
)
from keras_transfer.engine_choice import require_engine
from keras_transfer.options import option_infos
from keras_transfer.settings import DataSettings, EngineSettings, ModelSettings, TrainSettings
from keras_transfer.wording import percent


@click.command()
@click.argument("data")
@click.option(
    "--backbones",
    required=True,
    metavar="A,B,C",
    help="Networks to compare; `keras-transfer backbones` lists them. NAME=WEIGHTS sets the weights of one.",
)
@click.option("--output", "-o", metavar="DIR", help="Write compare.json and compare.png there.")
@overwrite_option
@click.option(
    "--metric",
    default="accuracy",
    type=click.Choice(["accuracy", "balanced_accuracy", "macro_f1"]),
    show_default=True,
    help="Metric that ranks them, on the validation images.",
)
@click.option("--seed", default=0, show_default=True, help="Fixes the split and random weights.")
@options_of(EngineSettings, DataSettings)
@offline_option
@output_options
def compare(
    data: str,
    backbones: str,
    output: str | None,
    overwrite: bool,
    metric: str,
    seed: int,
    offline: bool,
    as_json: bool,
    quiet: bool,
    **values: Any,
) -> None:
    """Compare pretrained networks on DATA: accuracy, size, speed.

    Each network's features are computed once and kept, and a linear classifier is fitted on them: seconds, not hours.
    The networks are ranked by the validation images; the test images say how good the winner is.
    """
    from keras_transfer.backbone_specs import full_name
    from keras_transfer.errors import UsageError

    names = [name.strip() for name in backbones.split(",") if name.strip()]
    if not names:
        raise UsageError("--backbones names no network; `keras-transfer backbones` lists them.")
    for name in names:  # before TensorFlow is imported
        full_name(name.partition("=")[0])
    settings = TrainSettings.of(seed=seed, **values)
    require_engine(settings.fit)
    prepare(quiet, offline)
    from keras_transfer.workflow.compare import compare as run_comparison

    result = run_comparison(data, names, settings=settings, output=output, metric=metric, overwrite=overwrite)
    if as_json:
        print_json(result)
        return
    _print(result)
    if output:
        click.echo(f"Comparison: {output}")


compare.params += [click_option(info) for info in option_infos(ModelSettings) if info.name != "backbone"]


def _print(result: dict[str, Any]) -> None:
    name, images = result["metric"].replace("_", " "), result["images"]
    columns = ["backbone", f"val. {name}", "test acc. (95 %)", "LogME", "params", "size", "latency"]
    columns += ["features (cached)", "front"]
    rows = [
        (
            row["backbone"],
            percent(row["validation"]),
            "{} ({:.0f}-{:.0f})".format(
                percent(row["test_accuracy"]), *(100 * end for end in row["test_interval"])
            ),
            f"{row['logme']:.3f}",
            f"{row['parameters'] / 1e6:.1f} M",
            size_of(row["bytes"]),
            f"{row['milliseconds']:.1f} ms",
            f"{row['extraction_seconds']:.1f} s ({row['cached']})",
            "*" if row["front"] else "",
        )
        for row in result["rows"]
        if not row["error"]
    ]
    failed = [row for row in result["rows"] if row["error"]]
    rows += [(row["backbone"], *("-" for _ in columns[1:])) for row in failed]
    print_table(columns, rows)
    for row in failed:
        click.echo(f"{row['backbone']}: {row['error']}")
    click.echo(
        f"Learned from {images['train']} images, ranked by {images['val']}, tested on {images['test']}. "
        "front: no other network is both as fast and as accurate."
    )
