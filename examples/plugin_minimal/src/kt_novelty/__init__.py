"""What the command line must know of the task before it imports TensorFlow."""

from dataclasses import dataclass

from keras_transfer.options import option
from keras_transfer.tasks.base import TaskSpec


@dataclass(frozen=True)
class NoveltyOptions:
    """Each field becomes an option of ``train``."""

    normal: str = option("normal", "The class that is learned from; all others count as unusual.")
    alarm: float = option(0.95, "Share of the normal images that raise no alarm.", minimum=0.5, maximum=1.0)


NOVELTY = TaskSpec(
    name="novelty",
    summary="How unlike the normal images an image is.",
    factory="kt_novelty.task:Novelty",
    options=NoveltyOptions,
    metrics={"auroc": "higher", "false_alarms": "lower"},
    main_metric="auroc",
    sample="kt_novelty.sample:photographs",
)
