"""Options as data: a frozen dataclass whose fields carry their help, choices and limits.

The same description becomes command-line options (``cli/kit.py``) and checks what Python
callers pass, so both doors accept the same values and refuse the others with the same sentence.

    @dataclass(frozen=True)
    class MyOptions:
        dropout: float = option(0.2, "Share of features dropped in training.", minimum=0.0, below=1.0)
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_transfer.errors import UsageError, unknown_name


@dataclasses.dataclass(frozen=True)
class Spelling:
    """How an option is written on the command line, where its name and type do not say it.

    Attributes:
        flag: such as ``--quantize``; None: made from the name.
        metavar: what stands for the value in the help; None: made from the type.
        commas: several values are one text with commas between them; without it the option is repeated.
        negatable: a switch has a ``--no-`` form, too.
        show_default: the help shows the default.
    """

    flag: str | None = None
    metavar: str | None = None
    commas: bool = False
    negatable: bool = True
    show_default: bool = True


@dataclasses.dataclass(frozen=True)
class OptionInfo:
    """One option, described. ``type`` is the bare type; ``multiple`` says that a tuple of them is taken.

    ``measuring`` says that a trained model may be measured with another value than it was trained with.
    """

    name: str
    type: type
    default: Any
    help: str
    choices: tuple[str, ...] | None
    minimum: float | None
    maximum: float | None
    below: float | None
    optional: bool
    multiple: bool
    measuring: bool = False
    spelling: Spelling = Spelling()

    @property
    def flag(self) -> str:
        """The command-line spelling, ``--val-fraction``."""
        return self.spelling.flag or "--" + self.name.replace("_", "-")


def option(
    default: Any,
    help: str,
    *,
    choices: Sequence[str] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    below: float | None = None,
    measuring: bool = False,
    spelling: Spelling = Spelling(),
) -> Any:
    """A dataclass field with what the command line needs to know about it.

    ``minimum`` and ``maximum`` are inclusive, ``below`` is an exclusive upper limit. ``measuring``: of a task's option
    that decides what is measured, not what is trained; ``evaluate --set`` and ``verify --set`` take it. ``spelling``:
    how the command line writes it, where name and type do not say it.
    """
    metadata = {
        "help": help,
        "choices": tuple(choices) if choices else None,
        "minimum": minimum,
        "maximum": maximum,
        "below": below,
        "measuring": measuring,
        "spelling": spelling,
    }
    return dataclasses.field(default=default, metadata=metadata)


def option_infos(options: Any) -> list[OptionInfo]:
    """The options of a dataclass (or of an instance), in their order.

    Raises ``TypeError`` for a field whose type cannot become an option: a mistake of the dataclass's author.
    """
    hints = typing.get_type_hints(options if isinstance(options, type) else type(options))
    infos = []
    for field in dataclasses.fields(options):
        bare, optional, multiple = _unwrap(hints[field.name])
        if bare not in (str, int, float, bool, Path):
            raise TypeError(
                f"option {field.name!r}: a field of type {hints[field.name]} cannot become an option"
            )
        infos.append(
            OptionInfo(
                name=field.name,
                type=bare,
                default=field.default,
                help=field.metadata.get("help", ""),
                choices=field.metadata.get("choices"),
                minimum=field.metadata.get("minimum"),
                maximum=field.metadata.get("maximum"),
                below=field.metadata.get("below"),
                optional=optional,
                multiple=multiple,
                measuring=field.metadata.get("measuring", False),
                spelling=field.metadata.get("spelling", Spelling()),
            )
        )
    return infos


def check(options: Any) -> None:
    """Check every value of an options dataclass.

    Raises ``UsageError`` naming the option, what was given and what is expected.
    """
    for info in option_infos(options):
        value = getattr(options, info.name)
        if value is None and info.optional:
            continue
        if info.multiple:
            if not isinstance(value, tuple):
                raise UsageError(
                    f"{info.flag}: {value!r} was given, a tuple of {info.type.__name__} is expected."
                )
            for item in value:
                _check_one(info, item)
        else:
            _check_one(info, value)


def to_dict(options: Any) -> dict[str, Any]:
    """The options as JSON-able values (paths become strings, tuples lists)."""
    return {
        field.name: _plain(getattr(options, field.name))
        for field in dataclasses.fields(options)
        if field.init
    }


def from_dict(cls: type, values: Mapping[str, Any]) -> Any:
    """The inverse of :func:`to_dict`. Raises ``UsageError`` for an unknown name or a value out of range."""
    infos = {info.name: info for info in option_infos(cls)}
    arguments = {}
    for name, value in values.items():
        if name not in infos:
            raise unknown_name("option", name, infos)
        info = infos[name]
        if info.multiple and isinstance(value, list):
            value = tuple(info.type(item) for item in value)
        elif value is not None and info.type is Path:
            value = Path(value)
        elif info.type is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        arguments[name] = value
    options = cls(**arguments)
    check(options)
    return options


def parse(cls: type, texts: Sequence[str]) -> dict[str, Any]:
    """Values for :func:`from_dict` from texts ``NAME=VALUE``, as ``--set`` takes them.

    Names are spelled with ``-`` or ``_``. An option that takes several values is given several times; ``NAME`` alone
    says yes to a switch. Limits and choices are left to :func:`from_dict`.

    Raises ``UsageError`` for an unknown name, a text without a value, a value of another type, or one value too many.
    """
    infos = {info.name: info for info in option_infos(cls)}
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, given = text.partition("=")
        name = name.strip().removeprefix("--").replace("-", "_")
        if name not in infos:
            raise unknown_name("option", name, infos)
        info = infos[name]
        if not equals and info.type is not bool:
            raise UsageError(f"--set {text}: {name}=VALUE is expected, with a value.")
        value = _read(info, given if equals else "true")
        if info.multiple:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise UsageError(f"--set {text}: {name} was given twice, and takes one value.")
        else:
            values[name] = value
    return values


_ANSWERS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _read(info: OptionInfo, text: str) -> Any:
    if info.type is bool and text.lower() not in _ANSWERS:
        raise UsageError(f"{info.flag}: {text!r} was given, true or false is expected.")
    try:
        return _ANSWERS[text.lower()] if info.type is bool else info.type(text)
    except ValueError:
        raise UsageError(f"{info.flag}: {text!r} was given, {info.type.__name__} is expected.") from None


def _unwrap(hint: Any) -> tuple[Any, bool, bool]:
    optional = multiple = False
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner = [part for part in typing.get_args(hint) if part is not type(None)]
        optional = len(inner) < len(typing.get_args(hint))
        hint = inner[0] if len(inner) == 1 else hint
    if typing.get_origin(hint) is tuple:
        multiple = True
        hint = typing.get_args(hint)[0]
    return hint, optional, multiple


_ACCEPTED: dict[type, tuple[type, ...]] = {float: (float, int), Path: (Path, str)}


def _check_one(info: OptionInfo, value: Any) -> None:
    expected = _ACCEPTED.get(info.type, (info.type,))
    if not isinstance(value, expected) or (isinstance(value, bool) and info.type is not bool):
        raise UsageError(f"{info.flag}: {value!r} was given, {info.type.__name__} is expected.")
    if info.choices and value not in info.choices:
        raise UsageError(f"{info.flag}: {value!r} was given, one of {', '.join(info.choices)} is expected.")
    if isinstance(value, (int, float)) and info.type in (int, float):
        if value != value:
            raise UsageError(f"{info.flag}: nan was given, a number is expected.")
        if info.minimum is not None and value < info.minimum:
            raise UsageError(f"{info.flag}: {value} was given, at least {info.minimum} is expected.")
        if info.maximum is not None and value > info.maximum:
            raise UsageError(f"{info.flag}: {value} was given, at most {info.maximum} is expected.")
        if info.below is not None and value >= info.below:
            raise UsageError(f"{info.flag}: {value} was given, less than {info.below} is expected.")


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
