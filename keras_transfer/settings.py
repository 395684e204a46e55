"""What a training run can be told, whatever its task: one frozen dataclass, one line a setting."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Unpack

from keras_transfer.options import Spelling, option
from keras_transfer.setting_values import TrainValues

STRATEGIES = ("auto", "probe", "finetune", "full", "scratch")
RESIZE_RULES = ("squash", "crop", "pad")
DECODE_RULES = ("scaled", "full")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "area", "lanczos")
ENGINES = ("auto", "litert", "keras", "openvino")
ENGINE_PRECISIONS = ("float32", "bfloat16")
SCHEDULES = ("cosine", "onecycle", "constant", "step")
POLICIES = ("none", "light", "standard", "strong", "alexnet")
POOLINGS = ("avg", "max", "gem", "flatten")
INPUT_MODES = ("tf", "caffe", "torch", "unit", "lite", "none")
UNKNOWN = ("auto", "mahalanobis", "relative", "knn", "energy", "vim", "joint", "none")
LABEL_MODES = ("auto", "classes", "multilabel", "regression")


@dataclass(frozen=True)
class DataSettings:
    """Where labels and splits come from, and what is tolerated: the parameters of ``data.load_data``."""

    val_fraction: float = option(0.15, "Share of the images used for validation.", minimum=0.0, below=1.0)
    test_fraction: float = option(0.2, "Share of the images used for the test.", minimum=0.0, below=1.0)
    split_from: str | None = option(None, "Use the split of this run folder or split.csv.")
    groups: str | None = option(
        None, "CSV with path,group: images of one group stay in one split. `check --output` writes one."
    )
    max_skipped: float = option(0.05, "Stop when a larger share is unreadable.", minimum=0.0, maximum=1.0)
    min_per_class: int = option(2, "Refuse classes with fewer images.", minimum=1)
    label_mode: str = option(
        "auto", "How a CSV's labels are read.", choices=LABEL_MODES, spelling=Spelling("--labels")
    )
    separator: str = option(";", "Separator between the labels of one image, in a CSV.")
    image_root: str | None = option(
        None, "Folder a CSV's paths are relative to (default: the CSV's), or an annotation's."
    )
    tfds_data_dir: str | None = option(None, "Where TensorFlow Datasets are kept.")


@dataclass(frozen=True)
class ModelSettings:
    """The backbone and how images are brought to its size."""

    backbone: str = option(
        "efficientnet_lite0",
        "The network; `keras-transfer backbones` lists them. path:FILE is a classifier of your own.",
    )
    cut: str | None = option(None, "path:FILE: the layer where it ends (default: before its head).")
    input_mode: str | None = option(
        None, "path:FILE: the pixels it expects, unless it scales them itself.", choices=INPUT_MODES
    )
    weights: str = option("auto", "auto, imagenet, none, or the path of a weights file.")
    image_size: int | None = option(None, "Height and width in pixels (default: the backbone's).", minimum=1)
    resize: str = option("squash", "How an image is brought to that size.", choices=RESIZE_RULES)
    interpolation: str = option("bilinear", "Resampling filter.", choices=INTERPOLATIONS)
    antialias: bool = option(True, "Smooth before an image is made smaller.")
    decode: str = option(
        "scaled",
        "scaled: read of a large JPEG only what its size needs; full: every pixel, at three to four times the time.",
        choices=DECODE_RULES,
    )


@dataclass(frozen=True)
class FeatureSettings:
    """What of a network is saved as features, and in which form."""

    layer: str | None = option(
        None, "A layer's name, or P2 to P5: the level of the pyramid (default: the last map)."
    )
    pooling: str = option("avg", "How a feature map becomes one vector.", choices=POOLINGS)
    pca: int | None = option(None, "Keep this many principal components of the training images.", minimum=1)
    dtype: str = option("float32", "Format of the numbers.", choices=("float32", "float16"))


@dataclass(frozen=True)
class EngineSettings:
    """What computes frozen features."""

    engine: str = option("auto", "Runtime that computes the frozen features.", choices=ENGINES)
    engine_precision: str = option(
        "float32",
        "openvino: its arithmetic. bfloat16 is faster where the processor has it, and less precise.",
        choices=ENGINE_PRECISIONS,
    )


@dataclass(frozen=True)
class FitSettings(EngineSettings):
    """How much of the network is trained, how that is decided, and what computes the part that is not."""

    group_near_duplicates: bool = option(
        False, "Find near-duplicates, and keep in one split those that belong together."
    )
    strategy: str = option("auto", "How much of the network is trained.", choices=STRATEGIES)
    unfreeze: str = option("30%", "finetune: what is trained: '30%', 'blocks:2', 'from:block6a', or a regex.")
    milestone: tuple[str, ...] = option(
        (), "EPOCH=RULE: from that epoch (counted from 0) train this instead (repeatable)."
    )
    batchnorm: str | None = option(
        None,
        "Batch normalization in the network: frozen; train (in trained layers); adapt (statistics re-estimated on "
        "your images, then frozen). Default: frozen; train for scratch.",
        choices=("frozen", "train", "adapt"),
    )
    guard: bool = option(True, "Keep the probe unless fine-tuning beats it on validation.")
    refit: bool = option(
        True,
        "If the probe is the final model, fit it again on training and validation images together.",
    )
    cache_boundary: str = option(
        "auto",
        "Compute the output of the layers below the trained ones once and keep it.",
        choices=("auto", "on", "off"),
    )
    views: int = option(4, "Augmented views per image that are kept there.", minimum=1)
    teacher: str | None = option(None, "Learn from this run folder or model file too (distillation).")
    temperature: float = option(4.0, "Distillation: softens the teacher's predictions.", minimum=0.1)
    teacher_weight: float = option(
        0.7, "Distillation: the teacher's share of the loss.", minimum=0.0, maximum=1.0
    )
    deploy: str | None = option(
        None,
        "Fit the head on the features of the backbone in this precision, as the device computes them; `export "
        "--quantize int8` ships that backbone.",
        choices=("int8",),
    )
    features: str | None = option(
        None,
        "Take the features from this folder, which `keras-transfer ray features` wrote, and compute none.",
        spelling=Spelling(metavar="DIR"),
    )
    unknown: str = option(
        "none",
        "How the run tells images that are like nothing it has learned; auto leaves classes out and takes the best. "
        "`predict` and `evaluate` of the run follow it; exported files do not carry it yet.",
        choices=UNKNOWN,
    )
    reject: float = option(
        0.05, "unknown: share of familiar images that may be refused.", minimum=0.001, maximum=0.5
    )


@dataclass(frozen=True)
class GradientSettings:
    """How gradient training goes: optimizer, schedule, loss, augmentation."""

    epochs: int = option(10, "Passes over the training images when fine-tuning.", minimum=1)
    batch_size: int = option(32, "Images per step, on all devices together.", minimum=1)
    devices: str = option(
        "1",
        "Devices that share each step: a number, auto (all accelerators), or cpu:N (parts of the processor).",
    )
    learning_rate: float | None = option(
        None, "Peak learning rate (default: 2e-4; 1e-3 for scratch; SGD: 20 times that).", minimum=1e-30
    )
    find_lr: bool = option(False, "Measure a learning rate first and use it (plots/lr_finder.png).")
    optimizer: str = option("adamw", "The optimizer.", choices=("adamw", "sgd"))
    momentum: float = option(0.9, "SGD's momentum.", minimum=0.0, below=1.0)
    schedule: str = option("cosine", "Schedule of the learning rate.", choices=SCHEDULES)
    warmup: float = option(
        0.1, "Share of the steps in which the learning rate rises.", minimum=0.0, below=1.0
    )
    layer_decay: float = option(
        1.0, "Learning rate of each block, as a factor of that of the block above.", minimum=0.01, maximum=1.0
    )
    weight_decay: float = option(
        1e-4, "Weight decay of kernels (never of biases and normalization).", minimum=0.0
    )
    clip_norm: float | None = option(None, "Largest norm of a step's gradients.", minimum=1e-6)
    accumulate: int = option(1, "Batches whose gradients are averaged into one step.", minimum=1)
    ema: float | None = option(
        None, "Average the weights with this decay, e.g. 0.99.", minimum=0.0, below=1.0
    )
    label_smoothing: float = option(
        0.0, "Share of the label spread over all classes.", minimum=0.0, below=1.0
    )
    focal: float | None = option(
        None, "Focal loss with this gamma, e.g. 2, instead of cross-entropy.", minimum=0.0
    )
    balance: str = option(
        "none", "How classes of unequal size are balanced.", choices=("none", "weights", "sampling")
    )
    augment: str = option("none", "Random changes of the training images.", choices=POLICIES)
    flips: str = option(
        "horizontal", "Which mirror images augmentation may make.", choices=("horizontal", "both", "none")
    )
    precision: str = option(
        "float32",
        "Arithmetic of the training; bfloat16 is slower on most CPUs.",
        choices=("float32", "mixed_bfloat16"),
    )
    monitor: str = option("loss", "Validation metric that stops training and chooses the epoch.")
    patience: int = option(5, "Stop after this many epochs without a better one.", minimum=1)


@dataclass(frozen=True)
class TrainSettings:
    """Everything a run is told apart from its data and its task's own options."""

    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    fit: FitSettings = FitSettings()
    gradient: GradientSettings = GradientSettings()
    seed: int = 0

    @classmethod
    def of(cls, **values: Unpack[TrainValues]) -> TrainSettings:
        """Settings from flat keyword arguments: ``TrainSettings.of(backbone="resnet50", epochs=3)``.

        Raises ``UsageError`` for an unknown name or a value out of range.
        """
        from keras_transfer.errors import unknown_name
        from keras_transfer.options import from_dict

        seed = values.pop("seed", 0)
        groups = {
            "data": DataSettings,
            "model": ModelSettings,
            "fit": FitSettings,
            "gradient": GradientSettings,
        }
        names = {field.name: key for key, group in groups.items() for field in dataclasses.fields(group)}
        chosen: dict[str, dict[str, Any]] = {key: {} for key in groups}
        for name, value in values.items():
            if name not in names:
                raise unknown_name("setting", name, [*names, "seed"])
            chosen[names[name]][name] = value
        return cls(**{key: from_dict(group, chosen[key]) for key, group in groups.items()}, seed=int(seed))

    def flat(self) -> dict[str, Any]:
        """All settings by name, JSON-able; ``TrainSettings.of(**settings.flat())`` gives them back."""
        from keras_transfer.options import to_dict

        groups = (self.data, self.model, self.fit, self.gradient)
        return {name: value for group in groups for name, value in to_dict(group).items()} | {
            "seed": self.seed
        }
