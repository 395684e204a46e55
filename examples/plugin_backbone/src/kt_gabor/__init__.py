"""The catalog row: facts only, so that listing it imports neither Keras nor NumPy."""

from keras_transfer.catalog import BackboneSpec

GABOR = BackboneSpec(
    name="gabor",
    constructor="kt_gabor.network:gabor",
    family="gabor",
    feature_dim=48,
    params=11 * 11 * 3 * 48,
    default_size=128,
    min_size=32,
    input_mode="unit",
    pyramid=("texture_pool", "pool_8", "pool_16", "pool_32"),
    weights_file=None,
    paper="Daugman 1985, Uncertainty relation for resolution in space, spatial frequency, and orientation, JOSA A 2(7)",
    licence="Apache-2.0",
)
