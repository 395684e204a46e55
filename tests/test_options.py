"""Options as data: what is accepted, what is refused, and that they survive a round trip."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_transfer.errors import UsageError
from keras_transfer.options import check, from_dict, option, option_infos, parse, to_dict
from keras_transfer.settings import TrainSettings


@dataclass(frozen=True)
class Example:
    rate: float = option(0.5, "A share.", minimum=0.0, below=1.0)
    count: int = option(3, "A count.", minimum=1, maximum=9)
    mode: str = option("a", "A choice.", choices=["a", "b"])
    widths: tuple[int, ...] = option((), "Several.", minimum=1)
    name: str | None = option(None, "May be left out.")
    flag: bool = option(False, "Yes or no.")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rate": 1.0}, "less than 1.0"),
        ({"rate": -0.1}, "at least 0.0"),
        ({"rate": float("nan")}, "nan"),
        ({"rate": "half"}, "float is expected"),
        ({"count": 10}, "at most 9"),
        ({"count": True}, "int is expected"),
        ({"count": 1.5}, "int is expected"),
        ({"mode": "c"}, "one of a, b"),
        ({"widths": [0]}, "at least 1"),
        ({"widths": 64}, "tuple of int"),
        ({"name": 3}, "str is expected"),
        ({"flag": 1}, "bool is expected"),
        ({"mod": "a"}, "Did you mean mode"),
    ],
)
def test_a_bad_value_is_refused_with_its_name_and_what_was_expected(values, said):
    with pytest.raises(UsageError, match=said):
        from_dict(Example, values)


@given(
    st.builds(
        Example,
        rate=st.floats(0, 0.999),
        count=st.integers(1, 9),
        mode=st.sampled_from("ab"),
        widths=st.lists(st.integers(1, 4096)).map(tuple),
        name=st.none() | st.text(),
        flag=st.booleans(),
    )
)
def test_every_valid_value_survives_a_round_trip(example):
    check(example)
    assert from_dict(Example, to_dict(example)) == example


def test_settings_survive_a_round_trip_through_flat_names():
    settings = TrainSettings.of(backbone="resnet50", epochs=3, val_fraction=0.25, seed=7, learning_rate=0.001)
    assert (settings.model.backbone, settings.gradient.epochs, settings.data.val_fraction) == (
        "resnet50",
        3,
        0.25,
    )
    assert TrainSettings.of(**settings.flat()) == settings
    with pytest.raises(UsageError, match="Did you mean backbone"):
        TrainSettings.of(backbon="resnet50")


def test_every_setting_is_explained():
    s = TrainSettings()
    for group in (s.data, s.model, s.fit, s.gradient):
        for info in option_infos(group):
            assert len(info.help) > 10, info.name


def test_texts_become_the_values_that_options_take():
    texts = ["rate=0.25", "count=4", "widths=8", "widths=16", "flag", "name=a=b"]
    values = parse(Example, texts)
    assert values == {"rate": 0.25, "count": 4, "widths": [8, 16], "flag": True, "name": "a=b"}
    assert from_dict(Example, values) == Example(0.25, 4, "a", (8, 16), "a=b", True)
    assert parse(TrainSettings().data.__class__, ["--val-fraction=0.5"]) == {"val_fraction": 0.5}
    assert parse(Example, ["flag=no"]) == {"flag": False}


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["cuont=4"], "Did you mean count"),
        (["count"], "with a value"),
        (["count=many"], "'many' was given, int is expected"),
        (["rate="], "float is expected"),
        (["flag=maybe"], "true or false"),
        (["count=4", "count=5"], "twice"),
    ],
)
def test_texts_that_are_no_values_are_refused(texts, said):
    with pytest.raises(UsageError, match=said):
        parse(Example, texts)
