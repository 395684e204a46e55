"""What the tests of the core and of the plugins share. Here: the tiny backbone's row of the catalog, facts only."""

from keras_transfer.catalog import BackboneSpec

TINY = BackboneSpec(
    name="tiny",
    constructor="keras_transfer_tests.tiny:tiny",
    family="tiny",
    feature_dim=64,
    params=28_832,
    default_size=64,
    min_size=32,
    input_mode="tf",
    pyramid=("stem_activation", "block3a_project_bn", "block4a_activation", "top_activation"),
    weights_file=None,
    paper="Sandler et al. 2018, MobileNetV2: Inverted Residuals and Linear Bottlenecks, arXiv:1801.04381",
    licence="Apache-2.0",
)
"""Seven convolutions in the manner of a MobileNet: a stem, a depthwise block, plain ones, a residual, a top."""

SMALL = {"backbone": "tiny", "image_size": 64, "engine": "keras"}
"""What ``train`` takes where it does not matter how good features are."""
