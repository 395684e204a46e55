"""Exit codes and the sentence for an unknown name."""

import pytest

from keras_transfer import errors


def test_usage_errors_exit_with_2_and_all_others_with_1():
    found = [
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)
    ]
    ours = [value for value in found if issubclass(value, errors.KerasTransferError)]
    assert len(ours) >= 9
    for value in ours:
        assert value.exit_code == (2 if issubclass(value, errors.UsageError) else 1), value


@pytest.mark.parametrize(
    ("given", "closest"), [("resnet5", "resnet50"), ("VGG16", "vgg16"), ("vg19", "vgg19")]
)
def test_unknown_name_suggests_the_closest_and_lists_all(given, closest):
    message = str(errors.unknown_name("backbone", given, ["resnet50", "vgg16", "vgg19"]))
    assert f"Did you mean {closest}" in message
    assert "resnet50, vgg16, vgg19" in message


def test_nothing_close_suggests_nothing():
    assert "Did you mean" not in str(errors.unknown_name("task", "zzz", ["classification"]))


def test_a_list_nobody_would_read_is_counted():
    message = str(errors.unknown_name("class", "palce", ["palace", *(f"class {i}" for i in range(999))]))
    assert message == "There is no class 'palce'. Did you mean palace? 1000 are known."
