"""The findings as one HTML page that needs nothing else, and as a CSV."""

from __future__ import annotations

import base64
import csv
import io
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import jinja2
import numpy as np
from PIL import Image

from keras_transfer.checking.issues import KINDS, Issue
from keras_transfer.data.table import ImageTable

SHOWN = 60
"""Findings of a kind with pictures; the CSV has all."""
_SIDE = 112
_TEMPLATE = "page.html.j2"
COLUMNS = ("path", "issue", "severity", "score", "what", "other", "suggestion")


def issues_csv(issues: Sequence[Issue]) -> str:
    """One row for each finding."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in issues:
        row = (one.path, one.kind, one.severity, f"{one.score:.4f}", one.text, one.other, one.suggestion)
        writer.writerow(row)
    return text.getvalue()


def html_page(table: ImageTable, issues: Sequence[Issue], *, title: str, facts: dict[str, str]) -> str:
    """The page: counts, and for each kind of finding a table with pictures that can be sorted.

    Args:
        table: gives the pictures of those findings that have rows.
        title: of the page.
        facts: shown on top, name and value.
    """
    pictures: dict[int, str] = {}

    def picture(row: int | None) -> str:
        if row is None:
            return ""
        if row not in pictures:
            pictures[row] = thumbnail(table.images.load(row))
        return pictures[row]

    by_kind: dict[str, list[Issue]] = defaultdict(list)
    for one in issues:
        by_kind[one.kind].append(one)
    sections = [
        {
            "name": name,
            "kind": KINDS[name],
            "count": len(found),
            "rows": [
                {"issue": one, "first": picture(one.row), "second": picture(one.other_row)}
                for one in found[:SHOWN]
            ],
        }
        for name, found in by_kind.items()
    ]
    splits = table.summary()["splits"]
    classes = [(name, [splits[split]["per_class"][name] for split in splits]) for name in table.classes]
    return (
        templates()
        .get_template(_TEMPLATE)
        .render(
            title=title,
            facts=facts,
            sections=sections,
            classes=classes,
            severities=Counter(one.severity for one in issues),
            shown=SHOWN,
        )
    )


def templates(*folders: Path) -> jinja2.Environment:
    """Templates of these folders, and the style of the house: what they are given is text, never markup."""
    loader = jinja2.FileSystemLoader([*folders, Path(__file__).parent])
    return jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)


def thumbnail(pixels: np.ndarray) -> str:
    """An image, uint8 ``(H, W, 3)``, as a small ``data:`` address."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
