"""Classes that can be told without looking at the object: by a border, the resolution, the format, the file's folder.

A small decision tree learns each class from such facts alone and is asked of images it did not learn from. A network
learns what is easiest, too (Geirhos et al. 2020, arXiv:2004.07780).
"""

from __future__ import annotations

from pathlib import PurePosixPath

import numpy as np
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from keras_transfer.checking.issues import Issue
from keras_transfer.checking.looks import FRAME
from keras_transfer.checking.pictures import Pictures
from keras_transfer.data.table import ImageTable, PathImages

CLEAR = 0.9
"""Balanced accuracy, chance is 0.5, from which a class is told by a fact."""
LEAST = 10
"""Images that a class and the rest must have."""


def shortcut_issues(table: ImageTable, pictures: Pictures, seed: int = 0) -> list[Issue]:
    """For each class and each group of facts: can the class be told by these alone?"""
    if table.label_mode not in ("classes", "multilabel"):
        return []
    found = []
    for name, facts in _facts(table, pictures).items():
        if (facts == facts[0]).all():
            continue
        for place, label in enumerate(table.classes):
            own = table.labels == place if table.label_mode == "classes" else table.labels[:, place] > 0
            if min(own.sum(), (~own).sum()) < LEAST:
                continue
            score = _told(facts, own, seed)
            if score >= CLEAR:
                text = (
                    f"Images of {label!r} can be told from the others by {name} alone (balanced accuracy "
                    f"{100 * score:.0f} %, chance 50 %)."
                )
                found.append(Issue("shortcuts", label, score, text, other=name))
            if len(table.classes) == 2 and table.label_mode == "classes":
                break  # the other one is the same question
    return found


def _told(facts: np.ndarray, own: np.ndarray, seed: int) -> float:
    tree = DecisionTreeClassifier(max_depth=3, min_samples_leaf=3, class_weight="balanced", random_state=seed)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    return float(balanced_accuracy_score(own, cross_val_predict(tree, facts, own, cv=folds)))


def _facts(table: ImageTable, pictures: Pictures) -> dict[str, np.ndarray]:
    """Groups of facts ``(N, k)`` that tell nothing of what is in a picture."""
    height, width = pictures.column("height").astype(float), pictures.column("width").astype(float)
    frame = pictures.column("frame") >= FRAME
    groups = {
        "a border": np.column_stack([frame, np.where(frame[:, None], pictures.column("colour"), -1)]),
        "the resolution": np.column_stack([height, width, width / height]),
        "the file's format": np.column_stack([_codes(pictures.column(name)) for name in ("format", "mode")]),
        "the file's size": pictures.column("size")[:, None] / (height * width)[:, None],
    }
    if isinstance(table.images, PathImages):
        folders = [_folder(name, table.label_text(i)) for i, name in enumerate(table.images.names)]
        groups["its folder"] = _one_hot(np.array(folders))
    return groups


def _folder(name: str, label: str) -> str:
    """The folders of an image but for those that are called as its class."""
    return "/".join(part for part in PurePosixPath(name).parts[:-1] if part not in label.split("/"))


def _codes(texts: np.ndarray) -> np.ndarray:
    return np.unique(texts, return_inverse=True)[1].astype(float)


def _one_hot(texts: np.ndarray) -> np.ndarray:
    """The 50 most frequent texts, a column each."""
    names, counts = np.unique(texts, return_counts=True)
    return (texts[:, None] == names[np.argsort(-counts, kind="stable")[:50]]).astype(float)
