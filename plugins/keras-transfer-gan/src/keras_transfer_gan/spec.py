"""What the command line must know of the task before it imports TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from keras_transfer.options import option
from keras_transfer.tasks.base import TaskSpec

ARCHITECTURES = ("dcgan", "residual")
CHANNELS = ("auto", "grey", "rgb")
LOSSES = ("non-saturating", "hinge", "wgan-gp", "least-squares")
NORMALIZATIONS = ("spectral", "batch", "none")
AUGMENTATIONS = ("auto", "none", "fixed", "adaptive")
SIZES = (28, 32, 64, 128)
"""Sides in pixels that the networks make: 7 or 4 pixels, doubled a few times."""


@dataclass(frozen=True)
class GanOptions:
    """Each field is an option of ``train --task gan``."""

    architecture: str = option(
        "dcgan",
        "dcgan: transposed convolutions; residual: resizing and convolutions, no checkerboard.",
        choices=ARCHITECTURES,
    )
    channels: str = option(
        "auto", "Channels of the generated images; auto: like those of the data.", choices=CHANNELS
    )
    conditional: bool = option(
        False, "Learn each class separately, so that images of a given class can be made."
    )
    noise_size: int = option(64, "Size of the noise vector.", minimum=1, maximum=4096)
    width: int = option(64, "Channels at the second-largest resolution.", minimum=4, maximum=512)
    loss: str = option("non-saturating", "What the two networks minimise.", choices=LOSSES)
    normalization: str = option("spectral", "Normalization of the discriminator.", choices=NORMALIZATIONS)
    r1: float = option(
        0.0, "Weight of the R1 penalty on the discriminator's gradient at real images.", minimum=0.0
    )
    gradient_penalty: float = option(10.0, "Weight of wgan-gp's penalty.", minimum=0.0)
    critic_steps: int = option(
        1, "Steps of the discriminator per step of the generator.", minimum=1, maximum=20
    )
    rate_ratio: float = option(
        1.0,
        "The discriminator's learning rate divided by the generator's (two time-scale).",
        minimum=0.01,
        maximum=100.0,
    )
    diff_augment: str = option(
        "auto",
        "Augment the discriminator's input, real and generated alike. adaptive: reduced while it does not overfit; "
        "auto: adaptive for fewer than 5,000 images, else none.",
        choices=AUGMENTATIONS,
    )
    changes: str = option("colour,translation,cutout", "What --diff-augment changes.")
    start_from: Path | None = option(None, "Start from the networks of this run, trained on other images.")  # noqa: RUF009
    freeze_lower: int = option(
        0,
        "With --start-from: this many lower blocks of the discriminator stay frozen (FreezeD).",
        minimum=0,
    )
    feature_network: str | None = option(
        None,
        "A frozen backbone of the catalog whose features are the discriminator's input (projected GAN).",
    )
    measure_every: int = option(
        0, "Epochs between measurements of KID while training; 0: only at the end.", minimum=0
    )
    metric_images: int = option(
        2000, "Largest number of real and of generated images that are compared.", minimum=8
    )
    metric_backbone: str | None = option(
        None,
        "Measure kid_NAME and fid_NAME, too, through this backbone of the catalog (such as inception_v3).",
    )
    on_collapse: str = option("warn", "What to do when all images become alike.", choices=("warn", "stop"))


GAN = TaskSpec(
    name="gan",
    summary="New images of the kind it was shown.",
    factory="keras_transfer_gan.task:Gan",
    options=GanOptions,
    needs_backbone=False,
    metrics={
        "kid_lite0": "lower",
        "fid_lite0": "lower",
        "manifold_precision": "higher",
        "manifold_recall": "higher",
        "diversity": "higher",
    },
    main_metric="kid_lite0",
    honours=("strategy", "epochs", "batch_size", "learning_rate", "clip_norm", "ema", "label_smoothing"),
    sample="keras_transfer_gan.sample:textures",
    drop=0.25,
    tolerance=0.01,  # a grey level where the brightest has 100: what is rounded up here may be rounded down there
    generates=True,
    standalone="keras_transfer_gan.standalone.generate",
)
