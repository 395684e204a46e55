"""Facts about every backbone: what to build, what comes out, where it is from. Facts only, nothing heavy is imported.

One row for each constructor of ``keras.applications``, EfficientNet-Lite0 to Lite2, and the networks of
``backbones/classic``. The numbers are measured and a test builds every network and compares.

Pyramid levels are the last block outputs at a quarter, an eighth, a sixteenth and a thirty-second of the image's side.
Inception and Xception begin with unpadded convolutions: there a side is a few pixels shorter than the stride says
(Inception at 128 pixels: 28, 13, 6, 2; AlexNet at 227: 55, 27, 13, 6), in NASNet by at most one. Upsample to
the size of the finer map, not by two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

NO_WEIGHTS = "no weights"


@dataclass(frozen=True)
class BackboneSpec:
    """One backbone, without its classifier."""

    name: str
    """Lowercase, words joined by ``_``: ``efficientnet_v2_b0``."""
    constructor: str
    """``module:function``. In ``keras.applications``, or a function that puts layers on ``input_tensor``."""
    family: str
    feature_dim: int
    """Channels of the last feature map, so the length of a feature vector."""
    params: int
    """All weights, batch-normalization statistics included."""
    default_size: int
    """Side in pixels of the images it was trained on."""
    min_size: int
    """Smallest side in pixels it can be built for."""
    input_mode: str
    """What the scaling layer in front of the network does to pixels: ``tf``, ``caffe``, ``torch``, ``unit``, ``lite``
    (see ``backbones/scaling.py``), or ``none`` where the network scales inside."""
    pyramid: tuple[str, str, str, str]
    """Layers whose outputs are the feature maps at strides 4, 8, 16 and 32."""
    weights_file: str | None
    """Name of the ImageNet weights without classifier in Keras's cache; None where a package ships them, or nobody."""
    paper: str
    licence: str
    """Of the ImageNet weights, as their authors state it (no warranty); ``"no weights"`` where there are none."""

    @property
    def pretrained(self) -> bool:
        """Whether ImageNet weights can be had."""
        return self.licence != NO_WEIGHTS


@dataclass(frozen=True)
class _Family:
    input_mode: str
    min_size: int
    weights_suffix: str
    licence: str
    paper: str


_CLASSIC = "keras_transfer.backbones.classic:"
_KERNELS = "_weights_tf_dim_ordering_tf_kernels_notop.h5"

# fmt: off
_FAMILIES = {
    "efficientnet_lite": _Family(
        "lite", 32, "", "Apache-2.0",
        "Tan and Le 2019, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, arXiv:1905.11946"),
    "mobilenet": _Family(
        "tf", 32, "", "Apache-2.0",
        "Howard et al. 2017, MobileNets: Efficient CNNs for Mobile Vision Applications, arXiv:1704.04861"),
    "mobilenet_v2": _Family(
        "tf", 32, "", "Apache-2.0",
        "Sandler et al. 2018, MobileNetV2: Inverted Residuals and Linear Bottlenecks, arXiv:1801.04381"),
    "mobilenet_v3": _Family(
        "none", 32, "_float_no_top_v2.h5", "Apache-2.0",
        "Howard et al. 2019, Searching for MobileNetV3, arXiv:1905.02244"),
    "efficientnet": _Family(
        "none", 32, "_notop.h5", "Apache-2.0",
        "Tan and Le 2019, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, arXiv:1905.11946"),
    "efficientnet_v2": _Family(
        "none", 32, "_notop.h5", "Apache-2.0",
        "Tan and Le 2021, EfficientNetV2: Smaller Models and Faster Training, arXiv:2104.00298"),
    "nasnet": _Family(
        "tf", 32, "_no_top.h5", "Apache-2.0",
        "Zoph et al. 2018, Learning Transferable Architectures for Scalable Image Recognition, arXiv:1707.07012"),
    "resnet": _Family(
        "caffe", 32, _KERNELS, "MIT",
        "He et al. 2016, Deep Residual Learning for Image Recognition, arXiv:1512.03385"),
    "resnet_v2": _Family(
        "tf", 32, _KERNELS, "Apache-2.0",
        "He et al. 2016, Identity Mappings in Deep Residual Networks, arXiv:1603.05027"),
    "densenet": _Family(
        "torch", 32, _KERNELS, "BSD-3-Clause",
        "Huang et al. 2017, Densely Connected Convolutional Networks, arXiv:1608.06993"),
    "vgg": _Family(
        "caffe", 32, _KERNELS, "CC-BY-4.0",
        "Simonyan and Zisserman 2015, Very Deep Convolutional Networks for Large-Scale Image Recognition, "
        "arXiv:1409.1556"),
    "inception_v3": _Family(
        "tf", 75, _KERNELS, "Apache-2.0",
        "Szegedy et al. 2016, Rethinking the Inception Architecture for Computer Vision, arXiv:1512.00567"),
    "inception_resnet_v2": _Family(
        "tf", 75, _KERNELS, "Apache-2.0",
        "Szegedy et al. 2017, Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning, "
        "arXiv:1602.07261"),
    "xception": _Family(
        "tf", 71, _KERNELS, "MIT",
        "Chollet 2017, Xception: Deep Learning with Depthwise Separable Convolutions, arXiv:1610.02357"),
    "convnext": _Family(
        "none", 32, "_notop.h5", "MIT",
        "Liu et al. 2022, A ConvNet for the 2020s, arXiv:2201.03545"),
    "alexnet": _Family(
        "torch", 67, "", NO_WEIGHTS,
        "Krizhevsky et al. 2012, ImageNet Classification with Deep Convolutional Neural Networks, doi:10.1145/3065386"),
    "zfnet": _Family(
        "torch", 53, "", NO_WEIGHTS,
        "Zeiler and Fergus 2013, Visualizing and Understanding Convolutional Networks, arXiv:1311.2901"),
    "vgg_bn": _Family(
        "torch", 32, "", NO_WEIGHTS,
        "Simonyan and Zisserman 2015, Very Deep Convolutional Networks for Large-Scale Image Recognition, "
        "arXiv:1409.1556"),
    "googlenet": _Family(
        "torch", 32, "", NO_WEIGHTS,
        "Szegedy et al. 2014, Going Deeper with Convolutions, arXiv:1409.4842"),
    "resnet_basic": _Family(
        "torch", 32, "", NO_WEIGHTS,
        "He et al. 2016, Deep Residual Learning for Image Recognition, arXiv:1512.03385"),
}


def _row(
    name: str, constructor: str, family: str, feature_dim: int, params: int, default_size: int,
    weights_stem: str | None, pyramid: str,
) -> BackboneSpec:
    facts = _FAMILIES[family]
    p2, p3, p4, p5 = pyramid.split()
    return BackboneSpec(
        name=name,
        constructor=constructor if ":" in constructor else f"keras.applications:{constructor}",
        family=family,
        feature_dim=feature_dim,
        params=params,
        default_size=default_size,
        min_size=facts.min_size,
        input_mode=facts.input_mode,
        pyramid=(p2, p3, p4, p5),
        weights_file=weights_stem + facts.weights_suffix if weights_stem else None,
        paper=facts.paper,
        licence=facts.licence,
    )


# name, constructor, family, feature_dim, params, default_size, beginning of the weights file's name, pyramid levels
_ROWS = (
    _row("efficientnet_lite0", "keras_transfer.backbones.efficientnet_lite:efficientnet_lite0", "efficientnet_lite",
         1280, 3_413_024, 224,
         None, "block2b_add block3b_add block5c_add top_activation"),
    _row("efficientnet_lite1", "keras_transfer.backbones.efficientnet_lite:efficientnet_lite1", "efficientnet_lite",
         1280, 4_189_344, 240,
         None, "block2c_add block3c_add block5d_add top_activation"),
    _row("efficientnet_lite2", "keras_transfer.backbones.efficientnet_lite:efficientnet_lite2", "efficientnet_lite",
         1280, 4_869_168, 260,
         None, "block2c_add block3c_add block5d_add top_activation"),
    _row("mobilenet", "MobileNet", "mobilenet", 1024, 3_228_864, 224,
         "mobilenet_1_0_224_tf_no_top.h5", "conv_pw_3_relu conv_pw_5_relu conv_pw_11_relu conv_pw_13_relu"),
    _row("mobilenet_v2", "MobileNetV2", "mobilenet_v2", 1280, 2_257_984, 224,
         "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
         "block_2_add block_5_add block_12_add out_relu"),
    _row("mobilenet_v3_small", "MobileNetV3Small", "mobilenet_v3", 576, 939_120, 224,
         "weights_mobilenet_v3_small_224_1.0",
         "expanded_conv_project_bn expanded_conv_2_add expanded_conv_7_add activation_17"),
    _row("mobilenet_v3_large", "MobileNetV3Large", "mobilenet_v3", 960, 2_996_352, 224,
         "weights_mobilenet_v3_large_224_1.0",
         "expanded_conv_2_add expanded_conv_5_add expanded_conv_11_add activation_19"),
    _row("efficientnet_b0", "EfficientNetB0", "efficientnet", 1280, 4_049_571, 224,
         "efficientnetb0", "block2b_add block3b_add block5c_add top_activation"),
    _row("efficientnet_b1", "EfficientNetB1", "efficientnet", 1280, 6_575_239, 240,
         "efficientnetb1", "block2c_add block3c_add block5d_add top_activation"),
    _row("efficientnet_b2", "EfficientNetB2", "efficientnet", 1408, 7_768_569, 260,
         "efficientnetb2", "block2c_add block3c_add block5d_add top_activation"),
    _row("efficientnet_b3", "EfficientNetB3", "efficientnet", 1536, 10_783_535, 300,
         "efficientnetb3", "block2c_add block3c_add block5e_add top_activation"),
    _row("efficientnet_b4", "EfficientNetB4", "efficientnet", 1792, 17_673_823, 380,
         "efficientnetb4", "block2d_add block3d_add block5f_add top_activation"),
    _row("efficientnet_b5", "EfficientNetB5", "efficientnet", 2048, 28_513_527, 456,
         "efficientnetb5", "block2e_add block3e_add block5g_add top_activation"),
    _row("efficientnet_b6", "EfficientNetB6", "efficientnet", 2304, 40_960_143, 528,
         "efficientnetb6", "block2f_add block3f_add block5h_add top_activation"),
    _row("efficientnet_b7", "EfficientNetB7", "efficientnet", 2560, 64_097_687, 600,
         "efficientnetb7", "block2g_add block3g_add block5j_add top_activation"),
    _row("efficientnet_v2_b0", "EfficientNetV2B0", "efficientnet_v2", 1280, 5_919_312, 224,
         "efficientnetv2-b0", "block2b_add block3b_add block5e_add top_activation"),
    _row("efficientnet_v2_b1", "EfficientNetV2B1", "efficientnet_v2", 1280, 6_931_124, 240,
         "efficientnetv2-b1", "block2c_add block3c_add block5f_add top_activation"),
    _row("efficientnet_v2_b2", "EfficientNetV2B2", "efficientnet_v2", 1408, 8_769_374, 260,
         "efficientnetv2-b2", "block2c_add block3c_add block5f_add top_activation"),
    _row("efficientnet_v2_b3", "EfficientNetV2B3", "efficientnet_v2", 1536, 12_930_622, 300,
         "efficientnetv2-b3", "block2c_add block3c_add block5g_add top_activation"),
    _row("efficientnet_v2_s", "EfficientNetV2S", "efficientnet_v2", 1280, 20_331_360, 384,
         "efficientnetv2-s", "block2d_add block3d_add block5i_add top_activation"),
    _row("efficientnet_v2_m", "EfficientNetV2M", "efficientnet_v2", 1280, 53_150_388, 480,
         "efficientnetv2-m", "block2e_add block3e_add block5n_add top_activation"),
    _row("efficientnet_v2_l", "EfficientNetV2L", "efficientnet_v2", 1280, 117_746_848, 480,
         "efficientnetv2-l", "block2g_add block3g_add block5s_add top_activation"),
    _row("nasnet_mobile", "NASNetMobile", "nasnet", 1056, 4_269_716, 224,
         "nasnet_mobile", "reduction_concat_stem_1 normal_concat_3 normal_concat_8 activation_187"),
    _row("nasnet_large", "NASNetLarge", "nasnet", 4032, 84_916_818, 331,
         "nasnet_large", "reduction_concat_stem_1 normal_concat_5 normal_concat_12 activation_259"),
    _row("resnet50", "ResNet50", "resnet", 2048, 23_587_712, 224,
         "resnet50", "conv2_block3_out conv3_block4_out conv4_block6_out conv5_block3_out"),
    _row("resnet101", "ResNet101", "resnet", 2048, 42_658_176, 224,
         "resnet101", "conv2_block3_out conv3_block4_out conv4_block23_out conv5_block3_out"),
    _row("resnet152", "ResNet152", "resnet", 2048, 58_370_944, 224,
         "resnet152", "conv2_block3_out conv3_block8_out conv4_block36_out conv5_block3_out"),
    _row("resnet50_v2", "ResNet50V2", "resnet_v2", 2048, 23_564_800, 224,
         "resnet50v2", "conv2_block2_out conv3_block3_out conv4_block5_out post_relu"),
    _row("resnet101_v2", "ResNet101V2", "resnet_v2", 2048, 42_626_560, 224,
         "resnet101v2", "conv2_block2_out conv3_block3_out conv4_block22_out post_relu"),
    _row("resnet152_v2", "ResNet152V2", "resnet_v2", 2048, 58_331_648, 224,
         "resnet152v2", "conv2_block2_out conv3_block7_out conv4_block35_out post_relu"),
    _row("densenet121", "DenseNet121", "densenet", 1024, 7_037_504, 224,
         "densenet121", "pool2_relu pool3_relu pool4_relu relu"),
    _row("densenet169", "DenseNet169", "densenet", 1664, 12_642_880, 224,
         "densenet169", "pool2_relu pool3_relu pool4_relu relu"),
    _row("densenet201", "DenseNet201", "densenet", 1920, 18_321_984, 224,
         "densenet201", "pool2_relu pool3_relu pool4_relu relu"),
    _row("vgg16", "VGG16", "vgg", 512, 14_714_688, 224,
         "vgg16", "block3_conv3 block4_conv3 block5_conv3 block5_pool"),
    _row("vgg19", "VGG19", "vgg", 512, 20_024_384, 224,
         "vgg19", "block3_conv4 block4_conv4 block5_conv4 block5_pool"),
    _row("inception_v3", "InceptionV3", "inception_v3", 2048, 21_802_784, 299,
         "inception_v3", "activation_4 mixed2 mixed7 mixed10"),
    _row("inception_resnet_v2", "InceptionResNetV2", "inception_resnet_v2", 1536, 54_336_736, 299,
         "inception_resnet_v2", "activation_4 block35_10_ac block17_20_ac conv_7b_ac"),
    _row("xception", "Xception", "xception", 2048, 20_861_480, 299,
         "xception", "add add_1 add_10 block14_sepconv2_act"),
    _row("convnext_tiny", "ConvNeXtTiny", "convnext", 768, 27_820_128, 224,
         "convnext_tiny", "add_2 add_5 add_14 layer_normalization"),
    _row("convnext_small", "ConvNeXtSmall", "convnext", 768, 49_454_688, 224,
         "convnext_small", "add_2 add_5 add_32 layer_normalization"),
    _row("convnext_base", "ConvNeXtBase", "convnext", 1024, 87_566_464, 224,
         "convnext_base", "add_2 add_5 add_32 layer_normalization"),
    _row("convnext_large", "ConvNeXtLarge", "convnext", 1536, 196_230_336, 224,
         "convnext_large", "add_2 add_5 add_32 layer_normalization"),
    _row("convnext_xlarge", "ConvNeXtXLarge", "convnext", 2048, 348_147_968, 224,
         "convnext_xlarge", "add_2 add_5 add_32 layer_normalization"),
    _row("alexnet", _CLASSIC + "AlexNet", "alexnet", 256, 3_747_200, 227,
         None, "conv1_relu conv2_relu conv5_relu conv5_pool"),
    _row("zfnet", _CLASSIC + "ZFNet", "zfnet", 512, 11_247_744, 224,
         None, "conv1_norm conv2_relu conv5_relu conv5_pool"),
    _row("vgg11_bn", _CLASSIC + "VGG11", "vgg_bn", 512, 9_231_488, 224,
         None, "block3_conv2_relu block4_conv2_relu block5_conv2_relu block5_pool"),
    _row("vgg13_bn", _CLASSIC + "VGG13", "vgg_bn", 512, 9_416_768, 224,
         None, "block3_conv2_relu block4_conv2_relu block5_conv2_relu block5_pool"),
    _row("vgg16_bn", _CLASSIC + "VGG16", "vgg_bn", 512, 14_731_584, 224,
         None, "block3_conv3_relu block4_conv3_relu block5_conv3_relu block5_pool"),
    _row("vgg19_bn", _CLASSIC + "VGG19", "vgg_bn", 512, 20_046_400, 224,
         None, "block3_conv4_relu block4_conv4_relu block5_conv4_relu block5_pool"),
    _row("googlenet", _CLASSIC + "GoogLeNet", "googlenet", 1024, 5_973_552, 224,
         None, "conv2_norm inception_3b_output inception_4e_output inception_5b_output"),
    _row("googlenet_bn", _CLASSIC + "GoogLeNetBN", "googlenet", 1024, 5_995_392, 224,
         None, "conv2_relu inception_3b_output inception_4e_output inception_5b_output"),
    _row("resnet18", _CLASSIC + "ResNet18", "resnet_basic", 512, 11_186_112, 224,
         None, "conv2_block2_out conv3_block2_out conv4_block2_out conv5_block2_out"),
    _row("resnet34", _CLASSIC + "ResNet34", "resnet_basic", 512, 21_301_696, 224,
         None, "conv2_block3_out conv3_block4_out conv4_block6_out conv5_block3_out"),
)
# fmt: on

OWN = "path:"
"""What the name of a backbone begins with that is a file of the user's: ``path:my_model.keras``."""

CATALOG: Mapping[str, BackboneSpec] = MappingProxyType({spec.name: spec for spec in _ROWS})
