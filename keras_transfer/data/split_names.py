"""Which split a folder's name means, or a word in a CSV: one rule for every source and every task."""

from __future__ import annotations

import re

WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_AROUND = frozenset(
    {
        *("data", "dataset", "file", "files", "folder", "image", "images", "img", "imgs", "photo", "photos"),
        *("pic", "pics", "picture", "pictures", "sample", "samples", "seg", "set", "split"),
    }
)
"""What stands beside such a word without saying anything else: ``training_set``, ``seg_train``, ``TestImages``."""


def split_of(name: str) -> str | None:
    """``train``, ``val`` or ``test`` where a name plainly means one; None otherwise.

    ``Training``, ``test_set``, ``seg_train``, ``val2017`` and ``TrainImages`` are plain; ``train_old`` is not.
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    meanings = []
    for word in re.findall(r"[^\W\d_]+", spaced.casefold()):
        if word in _AROUND:
            continue
        around = next((end for end in _AROUND if word.endswith(end) and word[: -len(end)] in WORDS), "")
        meanings.append(WORDS.get(word[: len(word) - len(around)]))
    return meanings[0] if len(meanings) == 1 else None
