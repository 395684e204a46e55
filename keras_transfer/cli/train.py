"""``keras-transfer train``."""

from __future__ import annotations

from typing import Any

import click

from keras_transfer.cli.kit import (
    click_option,
    offline_option,
    options_of,
    output_options,
    prepare,
    print_json,
)
from keras_transfer.cli.planning import show_plan
from keras_transfer.device_choice import read_devices
from keras_transfer.engine_choice import require_engine
from keras_transfer.options import option_infos
from keras_transfer.settings import (
    DataSettings,
    FitSettings,
    GradientSettings,
    ModelSettings,
    TrainSettings,
)
from keras_transfer.tasks.specs import task_spec
from keras_transfer.wording import score


class TaskCommand(click.Command):
    """A command whose options include those of the task that ``--task`` names."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> Any:
        """Add the task's options before anything is parsed."""
        self.spec = task_spec(_task_in(args))
        if not hasattr(self, "core"):
            self.core = list(self.params)
        self.params = [*self.core, *(click_option(info) for info in option_infos(self.spec.options))]
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
@click.option("--output", "-o", metavar="RUN", help="The run folder to make.")
@click.option("--dry-run", is_flag=True, help="Print plan, data and cost; train nothing.")
@click.option("--task", default="classification", show_default=True, help="What to train; see `plugins`.")
@click.option("--seed", default=0, show_default=True, help="Fixes split, initial weights and order.")
@options_of(ModelSettings, FitSettings, GradientSettings, DataSettings)
@click.option("--overwrite", is_flag=True, help="Replace a finished run.")
@offline_option
@output_options
@click.pass_context
def train(
    ctx: click.Context,
    data: str,
    output: str | None,
    dry_run: bool,
    task: str,
    seed: int,
    overwrite: bool,
    offline: bool,
    as_json: bool,
    quiet: bool,
    **values: Any,
) -> None:
    """Train a model on DATA and write a run folder.

    DATA is a folder with one sub-folder per class (with or without train/, val/, test/ above them), a CSV with the
    columns path and label, tfds:NAME, or one of the forms in docs/data.md (parquet, WebDataset, COCO, a zip,
    s3://...). To continue an interrupted training, run the same command again.
    """
    command = ctx.command
    assert isinstance(command, TaskCommand)
    own = {info.name: values.pop(info.name) for info in option_infos(command.spec.options)}
    task_options = command.spec.options(**own)
    settings = TrainSettings.of(seed=seed, **values)
    require_engine(settings.fit)
    read_devices(settings.gradient.devices)
    if output is None and not dry_run:
        raise click.UsageError("Missing option '--output' / '-o': the run folder to make.")
    prepare(quiet, offline)
    if dry_run or output is None:
        from keras_transfer.workflow.plan import plan_training

        plan = plan_training(data, task=task, task_options=task_options, settings=settings)
        return print_json(plan) if as_json else show_plan(plan, output)
    from keras_transfer.workflow.train import train as run_training

    run = run_training(
        data, output, task=task, task_options=task_options, settings=settings, overwrite=overwrite
    )
    if as_json:
        print_json(run.info)
        return
    for split, metrics in run.record.metrics.items():
        main = command.spec.main_metric
        name, value = main.replace("_", " "), metrics[main]
        shown = "no image has any label" if value is None else score(main, value)
        click.echo(f"{name} on {metrics['images']} {split} images: {shown}")
    click.echo(f"Run: {output}")
