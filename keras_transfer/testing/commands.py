"""The promises of a verb that a package adds to the command line, one function each."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from keras_transfer.cli.commands import COMMANDS
from keras_transfer.discovery import Entry, entries, load
from keras_transfer.testing.command import call
from keras_transfer.testing.promises import Broken, require, require_light

UNKNOWN = "--no-such-option"


class CommandTrial:
    """A verb.

    Args:
        name: of the verb. folder: not used.

    Raises:
        PluginError: it is broken.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.entry: Entry = next(entry for entry in entries(COMMANDS) if entry.name == name)
        self.command: click.Command = load(COMMANDS, name)


def verbs_of(distribution: str) -> Iterator[tuple[list[str], click.Command]]:
    """The commands that a distribution brings, those inside groups, too, with the words that call them."""
    for entry in entries(COMMANDS):
        if entry.distribution == distribution:
            for words, command in whole(entry.name, entry.load()):
                if not isinstance(command, click.Group):
                    yield words, command


def whole(name: str, command: click.Command) -> Iterator[tuple[list[str], click.Command]]:
    """A command and those inside it, with the words that call them."""
    found = [([name], command)]
    while found:
        words, command = found.pop()
        yield words, command
        if isinstance(command, click.Group):
            context = click.Context(command)
            inner = {one: command.get_command(context, one) for one in command.list_commands(context)}
            found += [([*words, one], each) for one, each in inner.items() if each is not None]


def verb_is_light(trial: CommandTrial) -> None:
    """Importing the verb imports neither TensorFlow nor Keras nor NumPy: ``--help`` lists verbs with it."""
    require_light(trial.entry.value, "import them inside the command's body")


def help_is_whole(trial: CommandTrial) -> None:
    """The help of the verb and of what is inside it tells what it does and what every option is, in plain letters."""
    for words, command in whole(trial.name, trial.command):
        asked = f"`{' '.join(words)} --help`"
        shown = call(*words, "--help")[0]
        require(command.help, f"{asked} does not say what the verb does: give the function a docstring.")
        silent = [
            option.opts[0]
            for option in command.params
            if isinstance(option, click.Option) and not option.help and not option.hidden
        ]
        require(not silent, f"{asked}: {', '.join(silent)} have no help text.")
        strange = strange_letters(shown)
        require(
            not strange, f"{asked} shows {strange}, which belongs to the source: put it on a line of its own."
        )


def strange_letters(shown: str) -> str:
    """Control characters, and the marks of click that should not be shown, in what a help text shows; "" for none."""
    odd = {repr(letter) for letter in shown if unicodedata.category(letter) == "Cc" and letter != "\n"}
    return ", ".join(sorted(odd | {mark for mark in ("\\b", "\\f") if mark in shown}))


def wrong_use_is_said(trial: CommandTrial) -> None:
    """An option that does not exist ends the verb with exit code 2 and a sentence that names it, and no traceback."""
    for words, _ in whole(trial.name, trial.command):
        asked = f"`{' '.join(words)} {UNKNOWN}`"
        try:
            said = call(*words, UNKNOWN, code=2)[1]
        except AssertionError as error:
            raise Broken(
                f"{asked} does not end with exit code 2 and a message: {' '.join(str(error).split())}"
            ) from error
        require(UNKNOWN in said, f"{asked} does not name what is wrong: {said.strip()}")


COMMAND_CHECKS: dict[str, Callable[[CommandTrial], None]] = {
    check.__name__: check for check in (verb_is_light, help_is_whole, wrong_use_is_said)
}
"""By name, in the order they run."""
