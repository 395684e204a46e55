"""``keras-transfer evaluate``."""

from __future__ import annotations

from typing import Any

import click

from keras_transfer.cli.kit import (
    input_range_option,
    logits_option,
    offline_option,
    output_options,
    prepare,
    print_json,
    print_table,
    set_option,
)
from keras_transfer.settings import LABEL_MODES
from keras_transfer.wording import percent


@click.command()
@click.argument("model")
@click.argument("data", required=False)
@click.option("--split", type=click.Choice(["train", "val", "test", "all"]), help="Which images.")
@click.option(
    "--labels-file",
    metavar="FILE",
    help="File with the class names, one per line, if there is none beside MODEL.",
)
@click.option(
    "--labels",
    "label_mode",
    default="auto",
    type=click.Choice(LABEL_MODES),
    show_default=True,
    help="How a CSV is read.",
)
@click.option("--image-root", metavar="DIR", help="Folder a CSV's paths are relative to.")
@click.option("--tfds-data-dir", metavar="DIR", help="Where TensorFlow Datasets are kept.")
@click.option("--max-skipped", default=0.05, show_default=True, metavar="X", help="Largest unreadable share.")
@click.option(
    "--tta", "views", default=1, show_default=True, metavar="N", help="Average over N views of each image."
)
@click.option(
    "--outside", metavar="FOLDER", help="Images of no class: how well a run with --unknown tells them."
)
@input_range_option
@logits_option
@set_option
@offline_option
@output_options
def evaluate(
    model: str,
    data: str | None,
    split: str | None,
    labels_file: str | None,
    views: int,
    outside: str | None,
    input_range: tuple[float, float] | None,
    logits: bool,
    changes: tuple[str, ...],
    offline: bool,
    as_json: bool,
    quiet: bool,
    **values: Any,
) -> None:
    """Measure MODEL on DATA.

    MODEL is a run folder, a .keras or .h5 file, a SavedModel or a .tflite; the preprocessing and the class names
    recorded beside it are used. DATA is what `train` takes; a run is measured on its own test images when DATA is left
    out. Of images that the run knows by their content, those it learned from are left out (--split all measures all).
    """
    prepare(quiet, offline)
    from keras_transfer.options import check
    from keras_transfer.settings import DataSettings
    from keras_transfer.workflow.evaluate import evaluate as measure

    settings = DataSettings(val_fraction=0.0, test_fraction=0.0, min_per_class=1, **values)
    check(settings)
    result = measure(
        model,
        data,
        split=split,
        labels=labels_file,
        settings=settings,
        views=views,
        outside=outside,
        task_options=changes,
        input_range=input_range,
        logits=logits,
    )
    if as_json:
        print_json(result)
        return
    scalars = [(name, value) for name, value in result.items() if isinstance(value, float)]
    click.echo(
        f"{result['images']} images ({result['split']}) of {result['data']}, {result['skipped']} skipped"
    )
    print_table(["metric", "value"], [(name.replace("_", " "), f"{value:.4f}") for name, value in scalars])
    for line in _unknown(result):
        click.echo(line)
    per_class = result.get("per_class")
    if per_class:
        print_table(*_by_class(per_class))


def _unknown(result: dict[str, Any]) -> list[str]:
    """What is said of images that the model does not know."""
    lines, found, outside = [], result.get("unknown"), result.get("outside")
    if found:
        line = f"Unknown: {found['unknown']} of {found['images']} images"
        if "right_withheld" in found:
            accuracy = found["accuracy_answered"]
            line += f", {found['right_withheld']} of them answered right"
            line += "" if accuracy is None else f"; accuracy of the others {percent(accuracy)}"
        lines.append(f"{line} ({found['method']}).")
    if outside:
        lines.append(
            f"Outside: {outside['images']} images of {outside['source']}, {percent(outside['accepted'])} still "
            f"answered; AUROC {outside['auroc']:.3f}, {percent(outside['fpr_at_95_tpr'])} of the familiar refused "
            "where 95 % of these are."
        )
        lines += [f"  answered: {path}" for path in outside["accepted_images"]]
    return lines


def _by_class(per_class: dict[str, dict[str, Any]]) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Columns and rows: whatever the task tells of each class, counts first, shares in percent."""
    first = next(iter(per_class.values()))
    counts = [name for name, value in first.items() if isinstance(value, int)]
    lists = [name for name, value in first.items() if isinstance(value, (list, dict, str))]
    shares = [name for name in first if name not in (*counts, *lists)]
    rows = [
        (name, *(row[count] for count in counts), *(percent(row[share]) for share in shares))
        for name, row in per_class.items()
    ]
    return ["class", *(name.replace("_", " ") for name in (*counts, *shares))], rows
