"""From a task to the judge that the export and the verification ask."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_transfer.export.parity import Judge
from keras_transfer.records import ModelContract
from keras_transfer.tasks.base import Task, TaskSpec


def judge_for(spec: TaskSpec, task: Task, contract: ModelContract) -> Judge:
    """How ``task`` judges the outputs of a model with this contract."""
    return Judge(
        names=contract.names,
        task=spec.name,
        kind=contract.kind,
        shape=contract.shape,
        metric=spec.main_metric,
        higher=spec.metrics[spec.main_metric] == "higher",
        drop=spec.drop,
        others=tuple(name for name in spec.metrics if name != spec.main_metric),
        measure=task.evaluate,
        decide=lambda outputs: _array(task.decide(outputs)),
        draw=task.draw_inputs if spec.generates else None,
        options=contract.options,
        notes=contract.notes,
        standalone=spec.standalone,
    )


def _array(decided: Any) -> np.ndarray | None:
    """What a task decided; a plugin may give a list."""
    return None if decided is None else np.asarray(decided)
