"""``keras-transfer train``."""

from __future__ import annotations

from typing import Any

import click

from keras_transfer.cli._common import (
    click_option,
    offline_option,
    options_of,
    output_options,
    percent,
    prepare,
    print_json,
)
from keras_transfer.options import describe
from keras_transfer.plugins import task_spec
from keras_transfer.settings import DataSettings, FitSettings, ModelSettings, TrainSettings


class TaskCommand(click.Command):
    """A command whose options include those of the task that ``--task`` names."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> Any:
        """Add the task's options before anything is parsed."""
        self.spec = task_spec(_task_in(args))
        known = {parameter.name for parameter in self.params}
        self.params += [click_option(info) for info in describe(self.spec.options) if info.name not in known]
        return super().make_context(info_name, args, parent, **extra)


def _task_in(args: list[str]) -> str:
    name = "classification"
    for index, argument in enumerate(args):
        if argument == "--task" and index + 1 < len(args):
            name = args[index + 1]
        elif argument.startswith("--task="):
            name = argument.removeprefix("--task=")
    return name


@click.command(cls=TaskCommand)
@click.argument("data")
@click.option("--output", "-o", required=True, metavar="RUN", help="The run folder to make.")
@click.option("--task", default="classification", show_default=True, help="What to train; see `plugins`.")
@click.option("--seed", default=0, show_default=True, help="Fixes split, initial weights and order.")
@options_of(ModelSettings, FitSettings, DataSettings)
@click.option("--overwrite", is_flag=True, help="Replace a finished run.")
@offline_option
@output_options
@click.pass_context
def train(
    ctx: click.Context,
    data: str,
    output: str,
    task: str,
    seed: int,
    overwrite: bool,
    offline: bool,
    as_json: bool,
    quiet: bool,
    **values: Any,
) -> None:
    """Train a model on DATA and leave a run folder.

    DATA is a folder with one sub-folder a class (with or without train/, val/, test/ above them), a CSV with the
    columns path and label, or tfds:NAME. An interrupted training goes on when the same command is given again.
    """
    command = ctx.command
    assert isinstance(command, TaskCommand)
    own = {info.name: values.pop(info.name) for info in describe(command.spec.options)}
    task_options = command.spec.options(**own)
    settings = TrainSettings.of(seed=seed, **values)
    prepare(quiet, offline)
    from keras_transfer.workflow.train import train as run_training

    run = run_training(
        data, output, task=task, task_options=task_options, settings=settings, overwrite=overwrite
    )
    if as_json:
        print_json(run.info)
        return
    for split, metrics in run.info["metrics"].items():
        main = command.spec.main_metric
        name, value = main.replace("_", " "), metrics[main]
        shown = (
            percent(value) if command.spec.metrics[main] == "higher" and 0 <= value <= 1 else f"{value:.4g}"
        )
        click.echo(f"{name} on {metrics['images']} {split} images: {shown}")
    click.echo(f"Run: {output}")
