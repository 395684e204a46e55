"""``keras-transfer doctor``."""

from __future__ import annotations

import click

from keras_transfer.cli.kit import (
    calibration_option,
    output_options,
    overwrite_option,
    plot_option,
    prepare,
    print_json,
    print_table,
    run_data_option,
    size_of,
)
from keras_transfer.outputs import Outputs
from keras_transfer.wording import percent


@click.command()
@click.argument("run")
@click.option(
    "--keep",
    multiple=True,
    type=click.IntRange(min=0),
    metavar="N",
    help="Measure with the N worst layers in float; repeatable; default: 0, 1, 2, 4, 8.",
)
@click.option("--whole", is_flag=True, help="Plain int8: the first layers and the head are quantized, too.")
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    help="Images to measure on (default: val, or test).",
)
@run_data_option
@calibration_option
@plot_option
@overwrite_option
@output_options
def doctor(
    run: str,
    keep: tuple[int, ...],
    whole: bool,
    split: str | None,
    data: str | None,
    calibration_size: int,
    plot: str | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Find the layers of RUN that int8 hurts most, and measure the model with the worst of them in float.

    `keras-transfer export RUN --quantize int8 --keep-float N` exports what is found here (without --whole, and with the
    same --calibration-size).
    """
    places = Outputs([run, data], overwrite=overwrite, option="--plot")
    if plot:
        places.check(plot)
    prepare(quiet)
    from keras_transfer.workflow.doctor import KEEP, diagnose_quantization

    result = diagnose_quantization(
        run, keep=keep or KEEP, whole=whole, data=data, split=split, calibration_size=calibration_size
    )
    if plot:
        from keras_transfer.evaluation.plots import doctor_chart

        with places.writing(plot) as place:
            doctor_chart(result["layers"], result["trials"], place)
    if as_json:
        print_json(result)
        return
    worst = [
        ("not finite" if row["error"] is None else f"{row['error']:.2f}", row["operator"], row["layer"])
        for row in result["layers"][:10]
    ]
    print_table(["error", "operator", "layer"], worst, title="The worst layers (0.29 is rounding alone)")
    rows = [
        (
            "Keras" if row["keep"] is None else f"int8, {row['keep']} in float",
            percent(row["accuracy"]),
            percent(row["agreement"]),
            "-" if row["bytes"] is None else size_of(row["bytes"]),
        )
        for row in result["trials"]
    ]
    print_table(["model", "accuracy", "agreement", "size"], rows)
    click.echo(
        f"Measured on {result['images']} {result['split']} images; errors in steps of each output's scale."
    )
    if plot:
        click.echo(f"Picture: {plot}")
