"""Writes the two files that tell editors and type checkers what Python finds out only while it runs.

    python tests/stubs.py

``keras_transfer/__init__.pyi`` has the public names, which are imported on first use.
``keras_transfer/setting_values.py`` has what ``train`` takes by name: the fields of the dataclasses in
``keras_transfer/settings.py``. ``test_stubs.py`` fails where a file is not what this script writes.
"""

from __future__ import annotations

import sys
import textwrap
from dataclasses import fields
from pathlib import Path

ROOT = Path(__file__).parents[1]
WIDTH = 110

NAMES = '''"""The public names, for editors and type checkers, which run nothing; made by tests/stubs.py."""

{imports}

__version__: str

__all__ = [
{names}
]
'''
VALUES = '''"""What ``keras_transfer.train`` takes by name, for editors and type checkers; made by tests/stubs.py."""

from typing import Literal, TypedDict


{groups}


class TrainValues({bases}):
    """The settings of a training by name: :class:`keras_transfer.settings.TrainSettings`."""

    seed: int
    """Fixes split, initial weights and order. Default: 0."""
'''
GROUP = '''class {name}(TypedDict, total=False):
    """Fields of :class:`keras_transfer.settings.{settings}` by name."""

{values}'''


def public_names() -> str:
    """The content of ``keras_transfer/__init__.pyi``."""
    from keras_transfer import _HOMES

    lines = [
        f"from {home} import "
        + ", ".join(sorted((name for name in _HOMES if _HOMES[name] == home), key=_as_imported))
        for home in sorted(set(_HOMES.values()))
    ]
    return NAMES.format(imports="\n".join(lines), names="\n".join(f'    "{name}",' for name in _HOMES))


def setting_values() -> str:
    """The content of ``keras_transfer/setting_values.py``."""
    from keras_transfer.options import option_infos
    from keras_transfer.settings import TrainSettings

    texts = {}
    for group in (type(field.default) for field in fields(TrainSettings) if field.name != "seed"):
        name, values = (
            group.__name__.replace("Settings", "Values"),
            "\n".join(map(_value, option_infos(group))),
        )
        texts[name] = GROUP.format(name=name, settings=group.__name__, values=values)
    return VALUES.format(groups="\n\n\n".join(texts.values()), bases=", ".join([*texts, "total=False"]))


FILES = {
    ROOT / "keras_transfer" / "__init__.pyi": public_names,
    ROOT / "keras_transfer" / "setting_values.py": setting_values,
}


def _as_imported(name: str) -> tuple[bool, str]:
    """Classes before functions, as ruff sorts them."""
    return not name[0].isupper(), name


def _value(info) -> str:
    """One field: its type, and what it is for."""
    return f"    {info.name}: {_type(info)}\n" + textwrap.indent(_text(info), "    ")


def _type(info) -> str:
    kind = info.type.__name__
    if info.choices:
        kind = "Literal[" + ", ".join(f'"{choice}"' for choice in info.choices) + "]"
    if info.multiple:
        kind = f"tuple[{kind}, ...] | list[{kind}]"
    return f"{kind} | None" if info.optional else kind


def _text(info) -> str:
    """A docstring: the help, the default unless it is None, and the range."""
    facts = [
        f"{word} {value!r}"
        for word, value in (
            ("Default:", info.default),
            ("at least", info.minimum),
            ("at most", info.maximum),
            ("less than", info.below),
        )
        if value is not None
    ]
    said = "; ".join(facts)
    words = f'"""{info.help} {said[:1].upper()}{said[1:]}'.rstrip() + ("." if said else "") + '"""'
    return "\n".join(textwrap.wrap(words, WIDTH - 4, break_long_words=False, break_on_hyphens=False))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    for path, content in FILES.items():
        path.write_text(content(), encoding="utf-8")
