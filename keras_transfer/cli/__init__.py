"""The command line. One file per verb; nothing here imports TensorFlow, Keras or NumPy before a verb runs."""

from __future__ import annotations

import errno
import importlib
import sys
from typing import Any

import click

import keras_transfer
from keras_transfer.cli.commands import COMMANDS
from keras_transfer.cli.verbs import VERBS
from keras_transfer.discovery import entries, load
from keras_transfer.errors import KerasTransferError, unknown_name

ENVIRONMENT = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)
"""What a disk or a permission does to any command: no defect."""


class Failure(click.ClickException):
    """An error of ours on its way to the user: the message alone, and our exit code."""

    def __init__(self, error: KerasTransferError) -> None:
        super().__init__(str(error))
        self.error = error

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """2 for a wrong argument, 1 for work that failed."""
        return self.error.exit_code


class Verbs(click.Group):
    """Imports a verb's module when the verb is used; its help line is already in :mod:`keras_transfer.cli.verbs`.

    Plugins add verbs by the entry-point group ``keras_transfer.commands``; they are listed without being imported.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order people use them, then those of plugins."""
        return [*VERBS, *_added()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb."""
        if cmd_name not in VERBS and ctx.resilient_parsing and cmd_name in _added():
            return click.Command(cmd_name, short_help=_added()[cmd_name])  # completion imports no plugin
        if cmd_name not in VERBS:
            return load(COMMANDS, cmd_name)
        return getattr(importlib.import_module(f"keras_transfer.cli.{cmd_name}"), cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of verbs, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([*VERBS.items(), *_added().items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Name the closest verb when there is none of this name."""
        known = [*VERBS, *_added()]
        if args and args[0] not in known and not args[0].startswith("-"):
            raise Failure(unknown_name("command", args[0], known))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Turn our errors into messages; everything else is a defect and shows where it happened."""
        try:
            return super().invoke(ctx)
        except KerasTransferError as error:
            raise Failure(error) from error
        except OSError as error:
            if error.errno not in ENVIRONMENT:
                raise
            place = f"{error.filename}: " if error.filename else ""
            raise Failure(
                KerasTransferError(f"{place}{error.strerror}. Make room or allow it, and repeat the command.")
            ) from error
        except KeyboardInterrupt:
            click.echo(
                "\nInterrupted. Completed work is kept: run the same command again to continue.", err=True
            )
            ctx.exit(130)


def _added() -> dict[str, str]:
    """The verbs of plugins, and where each is from."""
    return {
        entry.name: f"From {entry.distribution} {entry.version}.".replace(" .", ".")
        for entry in entries(COMMANDS)
        if entry.name not in VERBS
    }


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(keras_transfer.__version__, prog_name="keras-transfer")
def cli() -> None:
    """From a folder of images to a small model you can trust on a phone or a board.

    \b
    keras-transfer train photos/ --output run
    keras-transfer export run --to edge --format tflite --quantize int8
    """


def main() -> None:
    """What the ``keras-transfer`` command runs."""
    try:
        cli(prog_name="keras-transfer")
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
