"""What the command line must know of the task before it imports TensorFlow."""

from dataclasses import dataclass

from keras_transfer.options import option
from keras_transfer.tasks.base import GRADIENT, TaskSpec


@dataclass(frozen=True)
class OrdinalOptions:
    """Each field becomes an option of ``train``."""

    grades: tuple[str, ...] = option(
        (), "A grade, the lowest first (repeatable; default: in the order of their names)."
    )


ORDINAL = TaskSpec(
    name="ordinal",
    summary="Grades that have an order.",
    factory="kt_ordinal.task:Ordinal",
    options=OrdinalOptions,
    metrics={"grades_off": "lower", "accuracy": "higher"},
    main_metric="grades_off",
    drop=0.1,
    honours=(
        *("strategy", "unfreeze", "milestone", "batchnorm", "guard", "cache_boundary", "views"),
        *(name for name in GRADIENT if name not in ("focal", "label_smoothing", "balance")),
    ),
    sample="kt_ordinal.sample:brightness",
)
