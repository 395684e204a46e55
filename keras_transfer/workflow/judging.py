"""From a task to the judge that the export and the verification ask."""

from __future__ import annotations

from keras_transfer.export.parity import Judge
from keras_transfer.records import ModelContract
from keras_transfer.tasks.base import TaskSpec
from keras_transfer.tasks.checked import CheckedTask


def judge_for(spec: TaskSpec, task: CheckedTask, contract: ModelContract) -> Judge:
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
        decide=task.decide,
        draw=task.draw_inputs if spec.generates else None,
        options=contract.options,
        notes=contract.notes,
        standalone=spec.standalone,
    )
