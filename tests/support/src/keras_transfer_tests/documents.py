"""The commands and blocks of Python of a document: as they stand there, and on the tiny backbone."""

from __future__ import annotations

import re
import shlex

SMALLER = {"--image-size": "64", "--engine": "keras", "--batch-size": "16", "--epochs": "1"}
"""What a training is given unless the document says it."""
TAKES_A_BACKBONE = ("check", "train", "features", "similar")
LAYERS = {"from:block6a": "from:block5b", "block5c_add": "block4a_activation", "block6a": "block5b"}
"""Layers of EfficientNet-Lite0 that documents name, and their like in the tiny backbone."""
UNLEARNED = ("mobilenet_v2", "mobilenet_v3_small")
"""Networks of the documents whose weights are not on the machine that tests run on."""


def steps(text: str) -> list[tuple[str, str]]:
    """The commands (indented) and blocks of Python of a page, in order: ``("command" | "python", text)``.

    Without ``serve``, which ends when it is told to: tests/cli/test_serve.py and tests/export/test_page.py run it.
    """
    commands = r"^    (keras-transfer (?!serve )[^\n]*)$"
    found = re.findall(rf"```python\n(.*?)```|{commands}", text, re.DOTALL | re.MULTILINE)
    return [("python", code) if code else ("command", command) for code, command in found]


def words(command: str) -> list[str]:
    """The arguments of a ``keras-transfer`` command."""
    return shlex.split(command, comments=True)[1:]


def understand(command: str) -> None:
    """Parse a ``keras-transfer`` command as the program does; an option or a choice that is not there raises."""
    import click

    from keras_transfer.cli import cli

    found: click.Command | None = cli
    arguments = words(command)
    while isinstance(found, click.Group) and not (found.invoke_without_command and not arguments):
        found = found.get_command(click.Context(found), arguments.pop(0))
    assert found is not None, command
    found.make_context("check", arguments)


def smaller(arguments: list[str]) -> list[str]:
    """The same training with less work, on the network that the document names; other commands as they are."""
    if arguments[0] == "compare":
        return [word.replace("mobilenet_v2", "mobilenet_v2=none") for word in arguments]
    if arguments[0] == "benchmark":
        return [*arguments, "--seconds", "0.05", "--threads", "1"]
    if arguments[0] == "doctor":
        return [*arguments, "--keep", "2", "--calibration-size", "10"]
    if arguments[0] != "train":
        return arguments
    arguments = list(arguments)
    if "--milestone" in arguments:  # its epochs must come
        arguments += ["--epochs", "7"]
    if "--accumulate" in arguments:  # so many batches must come
        arguments += ["--epochs", "2"]
    if "--epochs" in arguments:
        place = arguments.index("--epochs") + 1
        arguments[place] = str(min(int(arguments[place]), 7 if "--milestone" in arguments else 2))
    given = (
        [*arguments, "--engine"] if "--features" in arguments else arguments
    )  # what computed them is settled
    for option, value in SMALLER.items():
        arguments += [] if option in given else [option, value]
    if _value(arguments, "--backbone") in UNLEARNED and "--weights" not in arguments:
        arguments += ["--weights", "none"]
    return arguments


def on_tiny(arguments: list[str]) -> list[str]:
    """The same command with little work on the tiny backbone."""
    arguments = [LAYERS.get(word, word) for word in smaller(arguments)]
    if arguments[0] == "compare":
        return _with(arguments, "--backbones", "tiny", "--image-size", "64")
    if arguments[arguments[0] == "ray"] not in TAKES_A_BACKBONE:
        return arguments
    if not (_value(arguments, "--backbone") or "").startswith("path:"):
        arguments = _with(arguments, "--backbone", "tiny")
        arguments = _without(arguments, "--weights")
    return arguments if "--image-size" in arguments else [*arguments, "--image-size", "64"]


def python_on_tiny(code: str) -> str:
    """The same block of Python on the tiny backbone."""
    for layer, like in LAYERS.items():
        code = code.replace(f'"{layer}"', f'"{like}"')
    code = code.replace('load_backbone("efficientnet_lite0"', 'load_backbone("tiny"')
    code = re.sub(r"(\btrain\(.*)image_size=96\)", r'\1image_size=96, backbone="tiny")', code)
    return code


def _value(arguments: list[str], option: str) -> str | None:
    return arguments[arguments.index(option) + 1] if option in arguments else None


def _without(arguments: list[str], option: str) -> list[str]:
    if option not in arguments:
        return arguments
    place = arguments.index(option)
    return arguments[:place] + arguments[place + 2 :]


def _with(arguments: list[str], *pairs: str) -> list[str]:
    for option in pairs[::2]:
        arguments = _without(arguments, option)
    return [*arguments, *pairs]
