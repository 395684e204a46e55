"""What ``--help`` shows, of every verb, those of plugins included."""

import click
import pytest

from keras_transfer.cli import cli
from keras_transfer.testing.command import call
from keras_transfer.testing.commands import strange_letters, whole


def commands():
    """The words that call every command there is."""
    context = click.Context(cli)
    yield []
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None, name
        for words, _ in whole(name, command):
            yield words


@pytest.mark.parametrize("width", ["50", "80", "120"])
def test_no_help_text_shows_what_belongs_to_the_source(width, monkeypatch):
    """Such as the mark that keeps click from wrapping a paragraph of commands."""
    monkeypatch.setenv("COLUMNS", width)
    every = list(commands())
    assert len(every) > 25
    for words in every:
        assert not strange_letters(call(*words, "--help")[0]), words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Does it.\n\n\b\nfirst line\nsecond line", ""),
        ("Does it: \b first line", r"'\x08'"),
        (r"Does it: \b first line", r"\b"),
    ],
)
def test_a_mark_that_is_shown_is_found(text, found):
    command = click.command(help=text)(lambda: None)
    assert strange_letters(command.get_help(click.Context(command))) == found


def test_commands_in_a_help_text_are_not_wrapped(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    lines = call("explain", "--help")[0].splitlines()
    assert "  keras-transfer explain run photo.jpg --output looks" in lines
