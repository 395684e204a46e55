"""What ``keras_transfer.train`` takes by name, for editors and type checkers; made by tests/stubs.py."""

from typing import Literal, TypedDict


class DataValues(TypedDict, total=False):
    """Fields of :class:`keras_transfer.settings.DataSettings` by name."""

    val_fraction: float
    """Share of the images used for validation. Default: 0.15; at least 0.0; less than 1.0."""
    test_fraction: float
    """Share of the images used for the test. Default: 0.2; at least 0.0; less than 1.0."""
    split_from: str | None
    """Use the split of this run folder or split.csv."""
    groups: str | None
    """CSV with path,group: images of one group stay in one split. `check --output` writes one."""
    max_skipped: float
    """Stop when a larger share is unreadable. Default: 0.05; at least 0.0; at most 1.0."""
    min_per_class: int
    """Refuse classes with fewer images. Default: 2; at least 1."""
    label_mode: Literal["auto", "classes", "multilabel", "regression"]
    """How a CSV's labels are read. Default: 'auto'."""
    separator: str
    """Separator between the labels of one image, in a CSV. Default: ';'."""
    image_root: str | None
    """Folder a CSV's paths are relative to (default: the CSV's), or an annotation's."""
    tfds_data_dir: str | None
    """Where TensorFlow Datasets are kept."""


class ModelValues(TypedDict, total=False):
    """Fields of :class:`keras_transfer.settings.ModelSettings` by name."""

    backbone: str
    """The network; `keras-transfer backbones` lists them. path:FILE is a classifier of your own. Default:
    'efficientnet_lite0'."""
    cut: str | None
    """path:FILE: the layer where it ends (default: before its head)."""
    input_mode: Literal["tf", "caffe", "torch", "unit", "lite", "none"] | None
    """path:FILE: the pixels it expects, unless it scales them itself."""
    weights: str
    """auto, imagenet, none, or the path of a weights file. Default: 'auto'."""
    image_size: int | None
    """Height and width in pixels (default: the backbone's). At least 1."""
    resize: Literal["squash", "crop", "pad"]
    """How an image is brought to that size. Default: 'squash'."""
    interpolation: Literal["nearest", "bilinear", "bicubic", "area", "lanczos"]
    """Resampling filter. Default: 'bilinear'."""
    antialias: bool
    """Smooth before an image is made smaller. Default: True."""
    decode: Literal["scaled", "full"]
    """scaled: read of a large JPEG only what its size needs; full: every pixel, at three to four times the
    time. Default: 'scaled'."""


class FitValues(TypedDict, total=False):
    """Fields of :class:`keras_transfer.settings.FitSettings` by name."""

    engine: Literal["auto", "litert", "keras", "openvino"]
    """Runtime that computes the frozen features. Default: 'auto'."""
    engine_precision: Literal["float32", "bfloat16"]
    """openvino: its arithmetic. bfloat16 is faster where the processor has it, and less precise. Default:
    'float32'."""
    group_near_duplicates: bool
    """Find near-duplicates, and keep in one split those that belong together. Default: False."""
    strategy: Literal["auto", "probe", "finetune", "full", "scratch"]
    """How much of the network is trained. Default: 'auto'."""
    unfreeze: str
    """finetune: what is trained: '30%', 'blocks:2', 'from:block6a', or a regex. Default: '30%'."""
    milestone: tuple[str, ...] | list[str]
    """EPOCH=RULE: from that epoch (counted from 0) train this instead (repeatable). Default: ()."""
    batchnorm: Literal["frozen", "train", "adapt"] | None
    """Batch normalization in the network: frozen; train (in trained layers); adapt (statistics re-estimated
    on your images, then frozen). Default: frozen; train for scratch."""
    guard: bool
    """Keep the probe unless fine-tuning beats it on validation. Default: True."""
    refit: bool
    """If the probe is the final model, fit it again on training and validation images together. Default:
    True."""
    cache_boundary: Literal["auto", "on", "off"]
    """Compute the output of the layers below the trained ones once and keep it. Default: 'auto'."""
    views: int
    """Augmented views per image that are kept there. Default: 4; at least 1."""
    teacher: str | None
    """Learn from this run folder or model file too (distillation)."""
    temperature: float
    """Distillation: softens the teacher's predictions. Default: 4.0; at least 0.1."""
    teacher_weight: float
    """Distillation: the teacher's share of the loss. Default: 0.7; at least 0.0; at most 1.0."""
    deploy: Literal["int8"] | None
    """Fit the head on the features of the backbone in this precision, as the device computes them; `export
    --quantize int8` ships that backbone."""
    features: str | None
    """Take the features from this folder, which `keras-transfer ray features` wrote, and compute none."""
    unknown: Literal["auto", "mahalanobis", "relative", "knn", "energy", "vim", "joint", "none"]
    """How the run tells images that are like nothing it has learned; auto leaves classes out and takes the
    best. `predict` and `evaluate` of the run follow it; exported files do not carry it yet. Default:
    'none'."""
    reject: float
    """unknown: share of familiar images that may be refused. Default: 0.05; at least 0.001; at most 0.5."""


class GradientValues(TypedDict, total=False):
    """Fields of :class:`keras_transfer.settings.GradientSettings` by name."""

    epochs: int
    """Passes over the training images when fine-tuning. Default: 10; at least 1."""
    batch_size: int
    """Images per step, on all devices together. Default: 32; at least 1."""
    devices: str
    """Devices that share each step: a number, auto (all accelerators), or cpu:N (parts of the processor).
    Default: '1'."""
    learning_rate: float | None
    """Peak learning rate (default: 2e-4; 1e-3 for scratch; SGD: 20 times that). At least 1e-30."""
    find_lr: bool
    """Measure a learning rate first and use it (plots/lr_finder.png). Default: False."""
    optimizer: Literal["adamw", "sgd"]
    """The optimizer. Default: 'adamw'."""
    momentum: float
    """SGD's momentum. Default: 0.9; at least 0.0; less than 1.0."""
    schedule: Literal["cosine", "onecycle", "constant", "step"]
    """Schedule of the learning rate. Default: 'cosine'."""
    warmup: float
    """Share of the steps in which the learning rate rises. Default: 0.1; at least 0.0; less than 1.0."""
    layer_decay: float
    """Learning rate of each block, as a factor of that of the block above. Default: 1.0; at least 0.01; at
    most 1.0."""
    weight_decay: float
    """Weight decay of kernels (never of biases and normalization). Default: 0.0001; at least 0.0."""
    clip_norm: float | None
    """Largest norm of a step's gradients. At least 1e-06."""
    accumulate: int
    """Batches whose gradients are averaged into one step. Default: 1; at least 1."""
    ema: float | None
    """Average the weights with this decay, e.g. 0.99. At least 0.0; less than 1.0."""
    label_smoothing: float
    """Share of the label spread over all classes. Default: 0.0; at least 0.0; less than 1.0."""
    focal: float | None
    """Focal loss with this gamma, e.g. 2, instead of cross-entropy. At least 0.0."""
    balance: Literal["none", "weights", "sampling"]
    """How classes of unequal size are balanced. Default: 'none'."""
    augment: Literal["none", "light", "standard", "strong", "alexnet"]
    """Random changes of the training images. Default: 'none'."""
    flips: Literal["horizontal", "both", "none"]
    """Which mirror images augmentation may make. Default: 'horizontal'."""
    precision: Literal["float32", "mixed_bfloat16"]
    """Arithmetic of the training; bfloat16 is slower on most CPUs. Default: 'float32'."""
    monitor: str
    """Validation metric that stops training and chooses the epoch. Default: 'loss'."""
    patience: int
    """Stop after this many epochs without a better one. Default: 5; at least 1."""


class TrainValues(DataValues, ModelValues, FitValues, GradientValues, total=False):
    """The settings of a training by name: :class:`keras_transfer.settings.TrainSettings`."""

    seed: int
    """Fixes split, initial weights and order. Default: 0."""
