"""The catalog: complete, consistent, light. That its facts are true: backbones/test_backbones_catalog.py."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from keras_transfer.backbone_specs import get_spec
from keras_transfer.catalog import CATALOG
from keras_transfer.errors import UsageError

LITE = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
HISTORIC = (
    *("alexnet", "zfnet", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),
    *("googlenet", "googlenet_bn", "resnet18", "resnet34"),
)


def test_every_constructor_of_keras_applications_has_one_row():
    import keras

    constructors = sorted(name for name in dir(keras.applications) if name[0].isupper())
    ours = sorted(
        spec.constructor.removeprefix("keras.applications:")
        for spec in CATALOG.values()
        if spec.constructor.startswith("keras.applications:")
    )
    assert ours == constructors
    keras_rows = {
        spec.name for spec in CATALOG.values() if spec.constructor.startswith("keras.applications:")
    }
    assert set(CATALOG) - keras_rows == {*LITE, *HISTORIC}


@pytest.mark.parametrize("spec", CATALOG.values(), ids=lambda spec: spec.name)
def test_rows_are_well_formed(spec):
    assert CATALOG[spec.name] is spec
    assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", spec.name)
    assert spec.input_mode in ("tf", "caffe", "torch", "unit", "lite", "none")
    assert 0 < spec.min_size <= spec.default_size
    assert len(set(spec.pyramid)) == 4
    assert re.search(r"^\S.* (19|20)\d\d, .+, (arXiv:\d{4}\.\d{4,5}|doi:10\.\S+)$", spec.paper)
    assert (spec.licence == "no weights") == (spec.name in HISTORIC) == (not spec.pretrained)
    assert spec.licence
    assert spec.weights_file is None or spec.weights_file.endswith(".h5")


def test_weights_files_are_distinct():
    files = [spec.weights_file for spec in CATALOG.values() if spec.weights_file]
    assert len(files) == len(set(files)) == len(CATALOG) - len(LITE) - len(HISTORIC)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("MobileNetV2", "mobilenet_v2"),
        ("mobilenet-v2", "mobilenet_v2"),
        ("EfficientNetV2B0", "efficientnet_v2_b0"),
        ("efficientnetv2-b0", "efficientnet_v2_b0"),
        ("ResNet50", "resnet50"),
        ("EfficientNet-Lite0", "efficientnet_lite0"),
        ("AlexNet", "alexnet"),
        ("GoogLeNet-BN", "googlenet_bn"),
        ("ResNet-18", "resnet18"),
    ],
)
def test_spellings(given, name):
    assert get_spec(given).name == name


@pytest.mark.parametrize(
    ("given", "close"),
    [("mobilnet_v2", "mobilenet_v2"), ("ResNet51", "resnet50"), ("efficientnet_lite", "efficientnet_lite0")],
)
def test_an_unknown_name_suggests_the_closest(given, close):
    with pytest.raises(UsageError, match=rf"no backbone '{given}'. Did you mean .*\b{close}\b") as caught:
        get_spec(given)
    assert caught.value.exit_code == 2


def test_the_catalog_cannot_be_changed():
    with pytest.raises(TypeError):
        CATALOG["mine"] = CATALOG["resnet50"]  # type: ignore[index]
    with pytest.raises(AttributeError):
        CATALOG["resnet50"].params = 1  # type: ignore[misc]


def test_importing_the_catalog_is_light():
    heavy = {"numpy", "keras", "tensorflow", "h5py"}
    code = f"import sys, keras_transfer.catalog; print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
