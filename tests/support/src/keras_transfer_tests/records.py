"""What a run says about itself, without a training."""

from __future__ import annotations

from typing import Any

from keras_transfer.records import RunRecord
from keras_transfer.settings import TrainSettings


def run_record(**changes: Any) -> RunRecord:
    """Of a classifier of two classes; ``changes`` are fields of ``run.json`` instead of its."""
    info: dict[str, Any] = {
        "request": {
            "source": "photos",
            "task": "classification",
            "options": {},
            "settings": TrainSettings().flat(),
            "version": "0.1.0",
            "files": {},
        },
        "started": "2026-11-30T12:00:00+00:00",
        "seconds": {"data": 0.5},
        "resumed": False,
        "plugin": {"distribution": "keras-transfer", "version": "0.1.0"},
        "versions": {"keras": "3"},
        "determinism": "bit-identical",
        "data": {
            "source": "photos",
            "fingerprint": "f",
            "images": 3,
            "splits": {"train": {"images": 2}, "val": {"images": 0}, "test": {"images": 1}},
        },
        "backbone": {},
        "preprocessing": {"size": [64, 64]},
        "output": {"kind": "probabilities", "shape": [2], "names": ["china", "flower"]},
        "training": {},
        "metrics": {"test": {"accuracy": 0.9}},
    }
    return RunRecord.parse({**info, **changes})
