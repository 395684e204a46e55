"""What the command line must know of the task before it imports TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from keras_transfer.options import option
from keras_transfer.tasks.base import FIT, GRADIENT, TaskSpec

ARCHITECTURES = ("unet", "fpn", "deeplab", "unet-scratch")
ELSEWHERE = (
    *("guard", "refit", "cache_boundary", "views", "teacher", "temperature", "teacher_weight", "deploy"),
    *("focal", "label_smoothing", "balance", "engine_precision", "unknown", "reject"),
)
"""Settings for classifiers, or for what is fitted before the gradient training: nothing here follows them."""
ENCODINGS = ("auto", "index", "binary", "color")


@dataclass(frozen=True)
class SegmentationOptions:
    """Each field is an option of ``train --task segmentation``."""

    architecture: str = option(
        "unet",
        "The decoder on the backbone; unet-scratch is the paper's network, without a backbone.",
        choices=ARCHITECTURES,
    )
    class_names: tuple[str, ...] = option(
        (), "Name of a class, in the order of the mask's values (repeatable)."
    )
    color_table: Path | None = option(None, "CSV name,r,g,b: the classes of colour-coded masks.")  # noqa: RUF009
    encoding: str = option("auto", "How mask files are read.", choices=ENCODINGS)
    ignore_index: int = option(255, "Mask value of pixels that do not count.", minimum=1, maximum=65535)
    loss: str = option("cross_entropy+dice", "Sum of losses, such as cross_entropy+0.5*dice.")
    class_weights: str = option(
        "none",
        "Weights of the classes in the loss: none; balanced (by the pixels of the training masks); or a number for "
        "each class, such as 1,2.5,0.5.",
    )
    decoder_dropout: float = option(0.0, "Share of channels dropped in training.", minimum=0.0, below=1.0)
    boundary_tolerance: float = option(
        2.0, "How many pixels a boundary may be off (boundary F1).", minimum=0.0
    )
    own_size: bool = option(False, "Measure at the masks' own size, too, not only at the model's.")


SEGMENTATION = TaskSpec(
    name="segmentation",
    summary="A class for every pixel.",
    factory="keras_transfer_segmentation.task:Segmentation",
    options=SegmentationOptions,
    metrics={
        "mean_iou": "higher",
        "mean_dice": "higher",
        "pixel_accuracy": "higher",
        "frequency_weighted_iou": "higher",
        "per_image_mean_iou": "higher",
        "boundary_f1": "higher",
    },
    main_metric="mean_iou",
    honours=tuple(name for name in (*FIT, *GRADIENT) if name not in ELSEWHERE),
    sample="keras_transfer_segmentation.sample:for_the_kit",
    standalone="keras_transfer_segmentation.standalone.segment",
)
