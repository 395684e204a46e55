"""What can be found, as a table of facts, and one finding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

SEVERITIES = ("high", "medium", "low")


@dataclass(frozen=True)
class Kind:
    """A kind of finding.

    Attributes:
        title: for headings.
        severity: ``high``: a score cannot be trusted, or an image is lost; ``medium``: look at it; ``low``: to know.
        suggestion: what to do about it.
        drops: ``check --drop`` takes it: the images it names can be left out.
    """

    title: str
    severity: str
    suggestion: str
    drops: bool = False


KINDS = {
    "unreadable": Kind("Unreadable files", "high", "Repair the file or remove it."),
    "left-out": Kind("Formats that are not read", "high", "Convert them to JPEG or PNG."),
    "conflicts": Kind(
        "One image, different labels",
        "high",
        "Decide which label is right and remove the other copies.",
        True,
    ),
    "leaks": Kind(
        "Near-duplicates across splits",
        "high",
        "Keep both in one split: train with --group-near-duplicates, or --groups and the groups.csv of this report.",
        True,
    ),
    "torn-groups": Kind(
        "Groups in several splits",
        "high",
        "Keep all images of a group in one split: correct the split, or leave it out to have the splits made.",
    ),
    "label-errors": Kind(
        "Labels that look wrong", "medium", "Look at the image and correct the label.", True
    ),
    "shortcuts": Kind(
        "Shortcuts",
        "high",
        "Make images of all classes alike in this: a model may learn it instead of the object.",
    ),
    "absent": Kind("Classes missing in a split", "high", "Move images of the class there."),
    "few": Kind("Classes with few images", "medium", "Add images of the class."),
    "imbalance": Kind("Classes of unequal size", "low", "Add images, or train with --balance weights."),
    "outliers": Kind("Images unlike all others", "medium", "Look whether the image belongs here.", True),
    "near-duplicates": Kind(
        "Near-duplicates",
        "medium",
        "Keep one of them, or keep all in one split: train with --group-near-duplicates.",
        True,
    ),
    "copies": Kind("Exact copies", "low", "Keep one of them.", True),
    "dark": Kind("Dark images", "medium", "Look whether anything can be seen.", True),
    "bright": Kind("Bright images", "medium", "Look whether anything can be seen.", True),
    "low-contrast": Kind("Images without contrast", "medium", "Look whether anything can be seen.", True),
    "blurred": Kind("Blurred images", "medium", "Look whether the object can be told.", True),
    "borders": Kind("Images in a frame", "low", "Cut the frame off if other classes have none.", True),
    "tiny": Kind("Tiny images", "medium", "Replace the image by a larger one.", True),
    "huge": Kind("Huge images", "low", "Make it smaller: it takes long to decode.", True),
    "aspect": Kind("Another aspect ratio", "low", "Cut it, or train with --resize pad.", True),
    "grey": Kind("Grey among colour", "low", "Look whether other classes have grey images, too.", True),
    "transparent": Kind(
        "Transparent images", "low", "Transparency is laid over white: look whether that fits."
    ),
    "16-bit": Kind("16 bits per value", "low", "Save it with 8 bits, scaled as you need it."),
    "turned": Kind("Turned by EXIF", "low", "Nothing: it is read upright. Other programs may not do so."),
}
"""Every kind of finding by its name, the worst first."""
DROPS = tuple(name for name, kind in KINDS.items() if kind.drops)


@dataclass(frozen=True)
class Issue:
    """One finding.

    Attributes:
        kind: a name of :data:`KINDS`.
        path: the image or file; of a class, a group or all images, its name.
        score: how sure or how bad, 0 to 1, the worst of a kind highest.
        text: what was found, a sentence.
        other: the other image of a pair; or what was expected, or what a class is told by.
        row: of the table; None: of a file that is not in it, a class, or all images.
        other_row: of the table.
    """

    kind: str
    path: str
    score: float
    text: str
    other: str = ""
    row: int | None = None
    other_row: int | None = None

    @property
    def severity(self) -> str:
        """``high``, ``medium`` or ``low``."""
        return KINDS[self.kind].severity

    @property
    def suggestion(self) -> str:
        """What to do about it."""
        return KINDS[self.kind].suggestion

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        values = asdict(self)
        del values["row"], values["other_row"]
        values["score"] = round(self.score, 4)
        return {**values, "severity": self.severity, "suggestion": self.suggestion}


def in_order(issues: Sequence[Issue]) -> list[Issue]:
    """By kind as in :data:`KINDS`, then the worst first."""
    places = {name: place for place, name in enumerate(KINDS)}
    return sorted(issues, key=lambda one: (places[one.kind], -one.score, one.path, one.other))
