"""What the verbs share: options made from dataclasses, quiet and JSON output, tables."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from keras_transfer import progress
from keras_transfer.options import OptionInfo, option_infos
from keras_transfer.quiet import import_tensorflow
from keras_transfer.records import ExportOptions

PICTURES = (".png", ".svg", ".pdf")


def options_of(*groups: type) -> Callable[[Any], Any]:
    """Add one command-line option for each field of these dataclasses."""

    def decorate(function: Any) -> Any:
        for group in reversed(groups):
            for info in reversed(option_infos(group)):
                function = _decorator(info)(function)
        return function

    return decorate


def click_option(info: OptionInfo) -> click.Option:
    """One option as a click parameter."""
    return click.Option([_declaration(info), info.name], **_keywords(info))


def output_options(function: Any) -> Any:
    """Add ``--json`` and ``--quiet``."""
    function = click.option("--quiet", "-q", is_flag=True, help="Only warnings and results.")(function)
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(function)


def picture_file(_context: click.Context, parameter: click.Parameter, path: str | None) -> str | None:
    """Whether a picture can be written there, before any work is done: an option's callback."""
    if path is not None and (Path(path).suffix.lower() not in PICTURES or Path(path).is_dir()):
        raise click.UsageError(
            f"{parameter.opts[0]} {path}: a file that ends in {', '.join(PICTURES)} is expected."
        )
    return path


plot_option = click.option(
    "--plot", metavar="FILE", callback=picture_file, help="Draw the result (PNG, SVG or PDF)."
)
overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace existing files (never files that are read)."
)
run_data_option = click.option(
    "--data", metavar="DATA", help="The run's data, if they are no longer where they were."
)
set_option = click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change an option of the task that decides what is measured (repeatable).",
)
logits_option = click.option("--logits", is_flag=True, help="The model ends without a softmax: append one.")


def _range(
    _context: click.Context, _parameter: click.Parameter, text: str | None
) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not -1e6 < low < high < 1e6:
        raise click.UsageError(f"--input-range {text}: two numbers LOW,HIGH are expected, such as -1,1.")
    return low, high


input_range_option = click.option(
    "--input-range",
    metavar="LOW,HIGH",
    callback=_range,
    help="Range of the pixels that a model of another tool expects, such as -1,1.",
)
offline_option = click.option("--offline", is_flag=True, help="Forbid downloads.")


def prepare(quiet: bool = False, offline: bool = False, tensorflow: bool = True) -> None:
    """Set up messages, bars and silence; with ``tensorflow``, import it without its chatter."""
    if offline:
        os.environ["KERAS_TRANSFER_OFFLINE"] = "1"
    warnings.simplefilter("ignore")
    for name in ("tensorflow", "absl", "keras"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logger = logging.getLogger("keras_transfer")
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.propagate = False
    logger.handlers = [_Messages()]
    progress.enable(not quiet and sys.stderr.isatty())
    if tensorflow:
        import_tensorflow()


def print_json(value: Any) -> None:
    """Print one JSON document on standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_jsonable))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> None:
    """Print a table on standard output; columns of numbers are aligned to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for index, column in enumerate(columns):
        numeric = all(str(row[index])[:1].isdigit() or str(row[index]) in ("", "-") for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console = Console() if sys.stdout.isatty() else Console(width=120)
    console.print(table)


def size_of(count: float) -> str:
    """Bytes for people: ``3.4 MB`` (1 MB is a million bytes)."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


class _Messages(logging.Handler):
    """Messages go to standard error, warnings marked as such."""

    def emit(self, record: logging.LogRecord) -> None:
        mark = click.style("Warning: ", fg="yellow") if record.levelno >= logging.WARNING else ""
        click.echo(mark + record.getMessage(), err=True)


def _declaration(info: OptionInfo) -> str:
    if info.type is bool and info.spelling.negatable:
        return f"{info.flag}/--no-{info.flag.removeprefix('--')}"
    return info.flag


def _keywords(info: OptionInfo) -> dict[str, Any]:
    spelling = info.spelling
    keywords: dict[str, Any] = {"help": info.help, "default": info.default}
    if info.type is bool:
        return {**keywords, **({"show_default": True} if spelling.negatable else {"is_flag": True})}
    kind: Any = click.Choice(info.choices) if info.choices else info.type
    metavar = None if info.choices else {int: "N", float: "X", str: "TEXT", Path: "PATH"}[info.type]
    return {
        **keywords,
        "type": _Several(kind) if spelling.commas else kind,
        "multiple": info.multiple and not spelling.commas,
        "show_default": spelling.show_default and info.default not in (None, ()),
        "metavar": spelling.metavar or metavar,
    }


class _Several(click.ParamType):
    """A text with commas between its values."""

    name = "values"

    def __init__(self, kind: Any) -> None:
        self._kind = click.types.convert_type(kind)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The values, a tuple; one is taken as it is."""
        if isinstance(value, tuple):
            return value
        return tuple(self._kind(part, param, ctx) for part in value.split(","))


def _decorator(info: OptionInfo) -> Callable[[Any], Any]:
    return click.option(_declaration(info), info.name, **_keywords(info))


calibration_option = _decorator(
    next(info for info in option_infos(ExportOptions) if info.name == "calibration_size")
)


def _jsonable(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if hasattr(value, "item"):
        return value.item()
    return str(value)
