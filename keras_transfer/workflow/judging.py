"""From a task to the judge that the export and the verification ask."""

from __future__ import annotations

import numpy as np

from keras_transfer.errors import PluginError
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
        decide=lambda outputs: decisions(spec.name, task, outputs),
        draw=task.draw_inputs if spec.generates else None,
        options=contract.options,
        notes=contract.notes,
        standalone=spec.standalone,
    )


def decisions(name: str, task: Task, outputs: np.ndarray) -> np.ndarray | None:
    """What outputs ``(N, ...)`` come to, ``(N, ...)``, as the task ``name`` says, which may give a list; None: nothing.

    Raises:
        PluginError: it gives something else than one decision per image, or decisions of several shapes.
    """
    given = task.decide(outputs)
    if given is None:
        return None
    try:
        decided = np.asarray(given)
    except ValueError:  # rows of several lengths
        decided = np.asarray(None)
    if decided.dtype == object or decided.shape[:1] != (len(outputs),):
        shape = f"something of the shape {decided.shape}" if decided.ndim else f"a {type(given).__name__}"
        raise PluginError(
            f"The task {name!r}: decide gave {shape} for {len(outputs)} images; one decision per image, all of one "
            "shape, is expected, or None. That is a fault of the task: tell its author."
        )
    return decided
