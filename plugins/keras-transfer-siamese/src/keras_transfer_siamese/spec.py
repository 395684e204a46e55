"""What the command line must know of the task before it imports TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass

from keras_transfer.options import option
from keras_transfer.settings import POOLINGS
from keras_transfer.tasks.base import FIT, GRADIENT, TaskSpec

NETWORKS = ("backbone", "koch", "conv4")
HEADS = ("auto", "raw", "centred", "power", "wccn", "lda", "dense")
LOSSES = (
    "supcon",
    "contrastive",
    "bce",
    "triplet-hard",
    "triplet-semihard",
    "prototypical",
    "arcface",
    "softmax",
)
COMPARISONS = ("auto", "cosine", "euclidean", "weighted_l1")
ELSEWHERE = (
    *("refit", "teacher", "temperature", "teacher_weight", "deploy", "focal", "label_smoothing", "balance"),
    *("unknown", "reject"),
)
"""Settings for classifiers: nothing here follows them."""
PROTOCOLS = ("episodes", "omniglot")


@dataclass(frozen=True)
class SiameseOptions:
    """Each field is an option of ``train --task siamese``."""

    network: str = option(
        "backbone",
        "The network: the backbone, or from scratch koch (105x105 characters) or conv4 (small).",
        choices=NETWORKS,
    )
    head: str = option(
        "auto",
        "The head on a backbone's features: raw (none, no training), centred, power, wccn, lda in closed form, "
        "dense by gradient; auto: the best of them on the validation classes, with fewer than 60 classes the best in "
        "closed form by cross-validation over all classes except the test's.",
        choices=HEADS,
    )
    layer: str | None = option(
        None,
        "The backbone's layer that features are taken from, or P2 to P5 (default: the last map); a lower one sees "
        "strokes and textures rather than things.",
    )
    pooling: str = option(
        "avg",
        "How a feature map becomes one vector; flatten keeps positions, which characters and signatures need.",
        choices=POOLINGS,
    )
    embedding_dim: int = option(128, "Largest size of an embedding.", minimum=2)
    loss: str = option("supcon", "What gradient training minimises.", choices=LOSSES)
    comparison: str = option(
        "auto",
        "How two embeddings are compared; auto: weighted_l1 for --loss bce, else cosine.",
        choices=COMPARISONS,
    )
    images_per_class: int = option(4, "Images per class in a training batch (K of P-K batches).", minimum=2)
    margin: float | None = option(None, "Margin of contrastive, triplet and ArcFace losses.", minimum=0.0)
    scale: float | None = option(None, "Factor of the similarities in a loss.", minimum=1e-3)
    head_epochs: int = option(60, "Passes of --head dense over the cached features.", minimum=1)
    levels: int = option(
        1,
        "Folders that name a class; 2: alphabet/character, with each alphabet in one split.",
        minimum=1,
        maximum=2,
        measuring=True,
    )
    allow_seen_classes: bool = option(
        False, "Split images, not classes, and measure on classes that were trained on, too.", measuring=True
    )
    episodes: int = option(1000, "Episodes of each measurement.", minimum=2, measuring=True)
    episodes_at: tuple[str, ...] = option(
        (),
        "WAYSxSHOTS of the episodes, such as 20x1 (repeatable; default: 20x1, 5x1, 20x5, 5x5).",
        measuring=True,
    )
    protocol: str = option(
        "episodes",
        "omniglot: 20 characters of one alphabet, one writer's against another's, 1 shot.",
        choices=PROTOCOLS,
        measuring=True,
    )


SIAMESE = TaskSpec(
    name="siamese",
    summary="Embeddings to recognise what was seen once: is it the same, and which one is it?",
    factory="keras_transfer_siamese.task:Siamese",
    options=SiameseOptions,
    metrics={
        "one_shot_accuracy": "higher",
        "equal_error_rate": "lower",
        "verification_auc": "higher",
        "tar_at_far_0.1": "higher",
        "tar_at_far_0.01": "higher",
        "tar_at_far_0.001": "higher",
        "recall_at_1": "higher",
        "recall_at_5": "higher",
        "mean_average_precision": "higher",
        "open_set_auroc": "higher",
    },
    main_metric="one_shot_accuracy",
    honours=tuple(name for name in (*FIT, *GRADIENT) if name not in ELSEWHERE),
    sample="keras_transfer_siamese.sample:glyphs",
    tolerance=1e-3,
    standalone="keras_transfer_siamese.standalone.recognise",
)
