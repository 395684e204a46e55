"""The page of results: every benchmark writes its own section and leaves the others alone."""

from __future__ import annotations

import json
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

TITLE = "# Results\n"


def write_section(path: Path, heading: str, text: str) -> None:
    """Replace the section ``## heading`` of a Markdown page, or add it at the end of the page, which may be missing."""
    page = path.read_text(encoding="utf-8") if path.is_file() else TITLE
    body = text.strip("\n")
    section = f"## {heading}\n\n{body}\n"
    pattern = re.compile(rf"^## {re.escape(heading)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if pattern.search(page):
        page = pattern.sub(lambda _: section + "\n", page, count=1)
    else:
        page = page.rstrip() + "\n\n" + section
    path.write_text(page.rstrip() + "\n", encoding="utf-8")


def read_results(path: Path) -> list[dict[str, Any]]:
    """What a results file holds, an object a line; nothing where there is none."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def keep_result(path: Path, new: dict[str, Any], by: tuple[str, ...]) -> None:
    """Put a result into a results file, in the place of the one that is alike by these fields, in their order."""

    def key(one: dict[str, Any]) -> list[Any]:
        return [one[name] for name in by]

    kept = [one for one in read_results(path) if key(one) != key(new)]
    path.write_text("".join(json.dumps(one) + "\n" for one in sorted([*kept, new], key=key)))


def machine() -> str:
    """One line about where it ran."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("tensorflow", "keras", "ai-edge-litert"))
    return (
        f"{os.cpu_count()} CPU cores ({platform.machine()}), Python {platform.python_version()}, {packages}"
    )
