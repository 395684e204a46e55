"""``keras-transfer demo``."""

from __future__ import annotations

import click

from keras_transfer.cli.kit import offline_option, output_options, prepare, print_json
from keras_transfer.wording import percent


@click.command()
@click.option(
    "--output", "-o", default="demo", show_default=True, metavar="DIR", help="Where the results go."
)
@click.option("--seed", default=0, show_default=True, help="Fixes the split.")
@offline_option
@output_options
def demo(output: str, seed: int, offline: bool, as_json: bool, quiet: bool) -> None:
    """Train, measure, export and compare on 2,624 real images of solar cells.

    Needs the extra demo (pip install 'keras-transfer[demo]'), and no network.
    """
    prepare(quiet, offline)
    from keras_transfer.cli.export import print_report
    from keras_transfer.workflow.demo import run_demo

    result = run_demo(output, seed=seed)
    metrics = result.run.record.metrics["test"]
    report = result.report.to_dict()
    if as_json:
        print_json(
            {
                "run": str(result.run.path),
                "metrics": metrics,
                "export": report,
                "picture": str(result.picture),
            }
        )
        return
    click.echo(
        f"Keras model: accuracy {percent(metrics['accuracy'])}, balanced accuracy "
        f"{percent(metrics['balanced_accuracy'])} on {metrics['images']} solar cells it has not seen."
    )
    print_report(report)
    click.echo(f"Pictures: {result.run.path / 'plots'}")
