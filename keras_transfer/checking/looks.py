"""Files and what their pictures look like: findings from facts of single images, most of them beside the others'."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import PurePath

import numpy as np

from keras_transfer.checking.issues import Issue
from keras_transfer.checking.pictures import Picture, Pictures
from keras_transfer.data.checking import OTHER_PHOTOS
from keras_transfer.data.table import ImageTable

TINY, HUGE = 32, 50_000_000
"""Pixels of the shorter side of a tiny image; pixels of a huge one."""
ASPECT = 1.5
"""An aspect ratio that differs from the usual one by more is another."""
DARK, BRIGHT, FLAT = 30.0, 235.0, 12.0
"""Grey values of 255: 95 of 100 pixels below; 95 above; 5th and 95th percentile so close."""
BLURRED = 0.1
"""Sharpness, as a share of the median of all images."""
FRAME = 0.04
"""Share of the shorter side that a border of one colour takes."""
USUAL = 0.2
"""What a larger share of the images has is how these data are, and not reported."""


def file_issues(table: ImageTable) -> list[Issue]:
    """Files that cannot be read, and how many of each format are left out."""
    found, left_out = [], Counter[str]()
    for one in table.skipped:
        suffix = PurePath(one.path).suffix.lower()
        if suffix in OTHER_PHOTOS:
            left_out[suffix] += 1
        elif one.counted:
            found.append(Issue("unreadable", one.path, 1.0, f"The file cannot be used: {one.reason}."))
    for suffix, count in left_out.items():
        share = count / (len(table) + len(table.skipped))
        files = "file" if count == 1 else "files"
        found.append(Issue("left-out", f"*{suffix}", share, f"{count} {files} of this format: not read."))
    return found


def look_issues(table: ImageTable, pictures: Pictures) -> list[Issue]:
    """What single pictures show."""
    facts = pictures.facts
    aspect = np.log([one.width / one.height for one in facts])
    usual_aspect, sharp = float(np.median(aspect)), float(np.median([one.sharpness for one in facts]))
    rules: dict[str, Callable[[Picture], tuple[bool, float, str]]] = {
        "tiny": lambda one: (
            min(one.height, one.width) < TINY,
            1 - min(one.height, one.width) / TINY,
            f"It has {one.width} x {one.height} pixels.",
        ),
        "huge": lambda one: (
            one.height * one.width > HUGE,
            1 - HUGE / (one.height * one.width),
            f"It has {one.width} x {one.height} pixels.",
        ),
        "aspect": lambda one: (
            abs(np.log(one.width / one.height) - usual_aspect) > np.log(ASPECT),
            1 - float(np.exp(-abs(np.log(one.width / one.height) - usual_aspect))),
            f"It has {one.width} x {one.height} pixels; the usual width is {np.exp(usual_aspect):.2f} heights.",
        ),
        "grey": lambda one: (one.grey, 1.0, "It has no colour."),
        "transparent": lambda one: (one.transparent, 1.0, f"It has transparent pixels ({one.mode})."),
        "16-bit": lambda one: (one.deep, 1.0, "It has 16 bits per value and is read with 8."),
        "turned": lambda one: (
            one.orientation != 1,
            1.0,
            f"It is turned by EXIF orientation {one.orientation}.",
        ),
        "dark": lambda one: (
            one.high < DARK,
            1 - one.high / 255,
            f"95 of 100 pixels are below {one.high + 1:.0f} of 255.",
        ),
        "bright": lambda one: (
            one.low > BRIGHT,
            one.low / 255,
            f"95 of 100 pixels are above {one.low - 1:.0f} of 255.",
        ),
        "low-contrast": lambda one: (
            one.high - one.low < FLAT and one.high >= DARK and one.low <= BRIGHT,
            1 - (one.high - one.low) / 255,
            f"Nine of ten pixels lie within {one.high - one.low:.0f} of 255 levels.",
        ),
        "blurred": lambda one: (
            one.sharpness < BLURRED * sharp and one.high - one.low >= FLAT,
            1 - one.sharpness / max(sharp, 1e-9),
            f"Its sharpness is {one.sharpness / max(sharp, 1e-9):.2f} of the median image's.",
        ),
        "borders": lambda one: (
            one.frame >= FRAME,
            min(1.0, 2 * one.frame),
            f"A border of one colour takes {100 * one.frame:.0f} % of the shorter side.",
        ),
    }
    found = []
    for kind, rule in rules.items():
        judged = [rule(one) for one in facts]
        share = float(np.mean([bool(wrong) for wrong, _, _ in judged]))
        if share > USUAL and kind != "tiny":
            continue
        found += [
            Issue(kind, table.images.describe(row), float(score), text, row=row)
            for row, (wrong, score, text) in enumerate(judged)
            if wrong
        ]
    return found
