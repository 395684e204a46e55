"""What a training run can be told, whatever its task: one frozen dataclass, one line a setting."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from keras_transfer.options import option

STRATEGIES = ("auto", "probe", "finetune", "full", "scratch")
RESIZE_RULES = ("squash", "crop", "pad")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "area", "lanczos")
ENGINES = ("auto", "litert", "keras")
LABEL_KINDS = ("auto", "classes", "multilabel", "regression")


@dataclass(frozen=True)
class DataSettings:
    """Where labels and splits come from, and what is tolerated: the parameters of ``data.load_data``."""

    val_fraction: float = option(0.15, "Share of the images used for validation.", minimum=0.0, below=1.0)
    test_fraction: float = option(0.2, "Share of the images never trained on.", minimum=0.0, below=1.0)
    split_from: str | None = option(None, "Use the split of this run folder or split.csv.")
    max_skipped: float = option(0.05, "Stop when a larger share is unreadable.", minimum=0.0, maximum=1.0)
    min_per_class: int = option(2, "Refuse classes with fewer images.", minimum=1)
    labels: str = option("auto", "How a CSV's labels are read.", choices=LABEL_KINDS)
    image_root: str | None = option(None, "Folder a CSV's paths are relative to (default: the CSV's).")
    tfds_data_dir: str | None = option(None, "Where TensorFlow Datasets are kept.")


@dataclass(frozen=True)
class ModelSettings:
    """The backbone and how images are brought to its size."""

    backbone: str = option("efficientnet_lite0", "Pretrained network; `keras-transfer backbones` lists them.")
    weights: str = option("auto", "auto, imagenet, none, or the path of a weights file.")
    image_size: int | None = option(None, "Height and width in pixels (default: the backbone's).", minimum=1)
    resize: str = option("squash", "How an image is brought to that size.", choices=RESIZE_RULES)
    interpolation: str = option("bilinear", "Resampling filter.", choices=INTERPOLATIONS)
    antialias: bool = option(True, "Smooth before shrinking.")


@dataclass(frozen=True)
class FitSettings:
    """How the model is trained."""

    strategy: str = option("auto", "How much of the network is trained.", choices=STRATEGIES)
    unfreeze: str = option("30%", "finetune: what is trained: '30%', 'blocks:2', 'from:block6a', or a regex.")
    batchnorm: str | None = option(
        None,
        "Batch normalization in trained layers (default: frozen; train for scratch).",
        choices=("frozen", "train"),
    )
    epochs: int = option(10, "Passes over the training images when fine-tuning.", minimum=1)
    batch_size: int = option(32, "Images a step.", minimum=1)
    learning_rate: float | None = option(
        None, "Peak learning rate (default: 2e-4; 1e-3 for scratch).", minimum=0.0
    )
    warmup: float = option(0.1, "Share of the steps in which the rate rises.", minimum=0.0, below=1.0)
    patience: int = option(5, "Stop after this many epochs without a better validation loss.", minimum=1)
    engine: str = option("auto", "What computes the frozen features.", choices=ENGINES)


@dataclass(frozen=True)
class TrainSettings:
    """Everything a run is told apart from its data and its task's own options."""

    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    fit: FitSettings = FitSettings()
    seed: int = 0

    @classmethod
    def of(cls, **values: Any) -> TrainSettings:
        """Settings from flat keyword arguments: ``TrainSettings.of(backbone="resnet50", epochs=3)``.

        Raises ``UsageError`` for an unknown name or a value out of range.
        """
        from keras_transfer.errors import unknown_name
        from keras_transfer.options import from_dict

        seed = values.pop("seed", 0)
        groups = {"data": DataSettings, "model": ModelSettings, "fit": FitSettings}
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

        return {**to_dict(self.data), **to_dict(self.model), **to_dict(self.fit), "seed": self.seed}
