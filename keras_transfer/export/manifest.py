"""``bundle.json``: what a bundle says about itself, and every file in it with its hash."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras_transfer
from keras_transfer.errors import require_utf8
from keras_transfer.export.parity import Judge
from keras_transfer.export.report import ExportReport
from keras_transfer.hashing import size_and_sha256
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.records.bundle import KIND, SCHEMA
from keras_transfer.records.layout import BUNDLE, CARD, TARGETS

UNLISTED = frozenset({BUNDLE, CARD})
"""Files without a recorded hash: the list itself, and the card, which people may complete."""


@dataclass(frozen=True)
class About:
    """What an export cannot see in the model.

    Attributes:
        title: what the model is called.
        training: the run it comes from (backbone, strategy, fingerprint of the data ...), JSON-able.
        weights_licence: of the pretrained weights, None when unknown.
        data_licence: of the images it learned from, None when unknown.

    Raises ``UsageError`` for a text that UTF-8 cannot hold.
    """

    title: str = "image classifier"
    training: dict[str, Any] = field(default_factory=dict)
    weights_licence: str | None = None
    data_licence: str | None = None

    def __post_init__(self) -> None:
        for what in ("title", "weights_licence", "data_licence"):
            require_utf8(what.replace("_", " "), getattr(self, what) or "")


def manifest(
    report: ExportReport,
    judge: Judge,
    preprocessing: Preprocessing,
    about: About,
    script: str | None,
) -> dict[str, Any]:
    """The content of ``bundle.json`` but for ``files``, see :func:`listed`; ``script``: the one to run."""
    content = report.to_dict()
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "keras_transfer": keras_transfer.__version__,
        "title": about.title,
        "task": judge.task,
        "options": dict(judge.options),
        "notes": dict(judge.notes),
        **({} if judge.draw is None else {"input": "numbers"}),
        "output": {"kind": judge.kind, "shape": list(judge.shape), "metric": judge.metric},
        "labels": list(judge.names),
        "script": script,
        "preprocessing": preprocessing.to_dict(),
        "artefacts": content["artefacts"],
        **({TARGETS: content[TARGETS]} if report.targets else {}),
        "measured": {
            name: content[name]
            for name in ("passed", "split", "images", "threads", "keras", "calibration", "tried")
        },
        "training": about.training,
        "licences": {"weights": about.weights_licence, "data": about.data_licence},
        "versions": content["versions"],
    }


def listed(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file in the folder but :data:`UNLISTED`, by relative POSIX path, sorted."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    result = {}
    for name in names:
        if name not in UNLISTED:
            size, sha256 = size_and_sha256(folder / name)
            result[name] = {"bytes": size, "sha256": sha256}
    return result
