"""From a task to the judge that the export and the verification ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_transfer.export.parity import Judge
from keras_transfer.tasks.base import Task, TaskSpec


def judge_for(
    spec: TaskSpec,
    task: Task,
    kind: str,
    shape: tuple[int, ...],
    names: tuple[str, ...],
    options: Mapping[str, Any],
    notes: Mapping[str, Any],
) -> Judge:
    """How ``task`` judges outputs of this kind, shape and these names."""
    return Judge(
        names=names,
        task=spec.name,
        kind=kind,
        shape=shape,
        metric=spec.main_metric,
        higher=spec.metrics[spec.main_metric] == "higher",
        drop=spec.drop,
        others=tuple(name for name in spec.metrics if name != spec.main_metric),
        measure=task.evaluate,
        decide=lambda outputs: _array(task.decide(outputs)),
        draw=task.draw_inputs if spec.generates else None,
        options=options,
        notes=notes,
        standalone=spec.standalone,
    )


def _array(decided: Any) -> np.ndarray | None:
    """What a task decided; a plugin may give a list."""
    return None if decided is None else np.asarray(decided)
