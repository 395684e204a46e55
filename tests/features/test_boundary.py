"""A classifier is cut where one tensor leads upward and nothing below changes; its activations are kept on disk."""

from __future__ import annotations

import logging
import shutil

import keras
import numpy as np
import pytest
from worker_features import PREPROCESSING, small_backbone

from keras_transfer.backbones import load_backbone
from keras_transfer.data import batches, load_data
from keras_transfer.errors import CacheError, DataError, ExportError, UsageError
from keras_transfer.features import activation_files
from keras_transfer.features.activations import activations
from keras_transfer.features.boundary import cut_at, find_boundary, frozen_dropout_off
from keras_transfer.features.cache import FeatureCache
from keras_transfer.freezing import set_trainable
from keras_transfer.heads import add_head, logits_model
from keras_transfer.inference import engines
from keras_transfer.paths import cache_dir


def residual_classifier(rate: float = 0.0, dropout: float = 0.0) -> keras.Model:
    """stem - [a - b] + skip - c - head, 16x16 pixels; ``rate``: dropout inside the residual block."""
    rng = np.random.default_rng(0)
    image = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    stem = keras.layers.Conv2D(8, 3, strides=2, padding="same", name="stem")(x)
    x = keras.layers.Conv2D(8, 3, padding="same", name="a")(stem)
    x = keras.layers.BatchNormalization(name="a_bn")(x)
    x = keras.layers.Dropout(rate, name="a_drop")(x)
    x = keras.layers.Conv2D(8, 3, padding="same", name="b")(x)
    x = keras.layers.Add(name="add")([stem, x])
    x = keras.layers.Conv2D(48, 1, name="wide")(x)
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", name="c")(x)
    model = add_head(keras.Model(image, x), 3, dropout=dropout)
    model.set_weights(
        [rng.uniform(0.3, 0.8, w.shape) - 0.5 * (len(w.shape) > 1) for w in model.get_weights()]
    )
    return model


def pixels(side: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (2, side, side, 3)).astype("float32")


@pytest.mark.parametrize("name", ["stem", "add", "c", "head_pooling"])
def test_the_two_parts_are_the_model_and_share_its_variables(name):
    model = residual_classifier()
    lower, upper = cut_at(model, name)
    x = pixels(16)
    np.testing.assert_allclose(upper(lower(x)), logits_model(model)(x), rtol=1e-5, atol=1e-5)
    ours = {id(v) for v in model.variables}
    assert ours == {id(v) for part in (lower, upper) for v in part.variables}
    again = cut_at(upper, "head_pooling")[1] if name != "head_pooling" else upper
    assert again.output_shape == (None, 3), "a part can be cut again"


def test_a_model_that_was_cut_is_saved_and_loaded_as_before(tmp_path):
    model = residual_classifier()
    _, upper = cut_at(model, "add")
    upper.get_layer("logits").bias.assign([1.0, 2.0, 3.0])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]
    np.testing.assert_allclose(loaded(pixels(16)), model(pixels(16)), atol=1e-6)


@pytest.mark.nightly
def test_the_two_parts_are_the_model_lite0(photos):
    model = add_head(load_backbone("efficientnet_lite0", image_size=96), 3)
    x = np.stack([photo[100:196, 100:196] for photo in photos.values()]).astype("float32")
    expected = logits_model(model)(x).numpy()
    assert np.ptp(expected, axis=0).max() > 1e-2, "the network must tell images apart"
    for name in ("stem_activation", "block2b_add", "block5c_add", "block6a_activation", "head_pooling"):
        lower, upper = cut_at(model, name)
        np.testing.assert_allclose(upper(lower(x)), expected, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(("name", "below"), [("a", "stem"), ("b", "stem"), ("logits", "head_pooling")])
def test_inside_a_residual_block_and_at_the_end_there_is_no_cut(name, below):
    with pytest.raises(UsageError, match=f"cannot be cut at '{name}'.*next place below is '{below}'"):
        cut_at(residual_classifier(), name)


def test_unknown_layers_and_models_with_several_outputs_are_refused():
    with pytest.raises(UsageError, match="Did you mean stem"):
        cut_at(residual_classifier(), "stm")
    image = keras.Input((8, 8, 3))
    twice = keras.Model(image, [keras.layers.Flatten()(image), keras.layers.Flatten()(image)])
    with pytest.raises(UsageError, match="one input and output"):
        find_boundary(twice)


@pytest.mark.parametrize(
    ("trained", "boundary"),
    [
        ("logits", "head_pooling"),
        ("c|logits", "add"),  # "wide" is frozen too, but six times larger
        ("wide|logits", "add"),
        ("b|logits", "stem"),
        ("stem", None),
        (".*", None),
    ],
)
def test_the_boundary_is_the_highest_frozen_point_that_is_not_much_larger_than_another(trained, boundary):
    model = residual_classifier()
    set_trainable(model, trained)
    assert find_boundary(model) == boundary


def test_what_behaves_differently_in_training_is_not_below_the_boundary():
    model = residual_classifier(rate=0.5)
    set_trainable(model, "c|logits")
    assert find_boundary(model) == "stem", "dropout in the residual block gives other activations every time"
    with frozen_dropout_off(model) as off:
        assert off == ["a_drop"] and find_boundary(model) == "add"
    assert model.get_layer("a_drop").rate == 0.5
    model = residual_classifier()
    set_trainable(model, "c|logits")
    model.get_layer("a_bn").trainable = True
    model.get_layer("a_bn").gamma.trainable = model.get_layer("a_bn").beta.trainable = False
    assert find_boundary(model) == "stem", "batch normalization would use the batch's statistics"


def test_dropout_above_trained_layers_stays_on():
    model = residual_classifier(rate=0.5)
    set_trainable(model, "stem|logits")
    with frozen_dropout_off(model) as off:
        assert off == [] and model.get_layer("a_drop").rate == 0.5


@pytest.mark.slow
def test_boundaries_of_lite0():
    model = add_head(load_backbone("efficientnet_lite0", weights="none", image_size=224), 2, dropout=0.2)
    found = {}
    for rule in ("all", "blocks:1", "from:block7a", "from:block6a", "from:block6d_project_conv"):
        set_trainable(model, rule)
        with frozen_dropout_off(model):
            found[rule] = find_boundary(model)
    assert found == {
        "all": None,
        "blocks:1": "block7a_project_bn",
        "from:block7a": "block6d_add",
        "from:block6a": "block5c_add",
        "from:block6d_project_conv": "block6c_add",
    }


# Activations on disk


@pytest.fixture(scope="module")
def lower() -> keras.Model:
    """Pixels ``(B, 48, 48, 3)`` to ``(B, 12, 12, 24)``."""
    return small_backbone()


def close(values: np.ndarray, expected: np.ndarray) -> bool:
    """Within float16's rounding of the scale."""
    return values.shape == expected.shape and np.abs(values - expected).max() <= 1e-3 * np.abs(expected).max()


def plain(table, lower, rows) -> np.ndarray:
    return np.asarray(lower(next(batches(table, PREPROCESSING, 64, indices=rows)).astype("float32")))


class Brighter:
    """An augmenter: a pure function of key and pixels."""

    def __init__(self, strength: float = 1.0) -> None:
        self.strength, self.keys = strength, []

    def images(self, pixels: np.ndarray, key: tuple[int, ...]) -> np.ndarray:
        self.keys.append(key)
        change = np.random.default_rng(key).uniform(0, 60, (len(pixels), 1, 1, 1)) * self.strength
        return np.clip(pixels + change, 0, 255).astype("float32")

    def to_dict(self) -> dict:
        return {"brighter": self.strength}


@pytest.mark.parametrize("engine", ["keras", pytest.param("litert", marks=pytest.mark.slow)])
def test_activations_are_the_lower_parts_outputs_and_the_second_time_nothing_is_computed(
    table, lower, engine
):
    rows = np.array([7, 3, 39, 0, 12])
    first = activations(table, lower, preprocessing=PREPROCESSING, indices=rows, engine=engine)
    again = activations(table, lower, preprocessing=PREPROCESSING, indices=rows[::-1], engine=engine)
    assert (first.computed, first.cached, first.engine) == (5, 0, engine)
    assert (again.computed, again.cached) == (0, 5), "the same set in another order"
    assert first.values.dtype == np.float16 and isinstance(first.values, np.memmap)
    assert first.shape == (12, 12, 24) and first.views == 1
    for kept in (first, again):
        assert close(kept.take(rows).astype("float32"), plain(table, lower, rows))
    with pytest.raises(UsageError, match="Row 1 has no activations"):
        first.take([1])
    with pytest.raises(UsageError, match="views 0 to 0"):
        first.take([7], view=1)


def test_auto_takes_what_is_there(table, lower):
    activations(table, lower, preprocessing=PREPROCESSING, engine="keras")
    assert activations(table, lower, preprocessing=PREPROCESSING).computed == 0


def test_equal_images_are_computed_once(photo_folder, lower, tmp_path):
    shutil.copytree(photo_folder, tmp_path / "data")
    shutil.copy(photo_folder / "china" / "000.png", tmp_path / "data" / "china" / "copy.png")
    table = load_data(tmp_path / "data")
    kept = activations(table, lower, preprocessing=PREPROCESSING, engine="keras")
    assert kept.computed == 40 and len(table) == 41
    assert close(kept.take(range(41)).astype("float32"), plain(table, lower, np.arange(41)))


def test_views_are_pure_and_belong_to_their_augmentation(table, lower):
    def run(augmenter, **options):
        settings = {"views": 3, "seed": 5, **options}
        return activations(
            table, lower, preprocessing=PREPROCESSING, engine="keras", augmenter=augmenter, **settings
        )

    first = run(augmenter := Brighter())
    assert first.computed == 120 and first.views == 3
    assert augmenter.keys == [(5, view, block) for view in range(3) for block in range(2)]
    assert len({first.take(range(40), view).tobytes() for view in range(3)}) == 3
    assert run(Brighter()).computed == 0
    for other in (run(Brighter(0.5)), run(Brighter(), seed=6), run(Brighter(), views=2), run(None, views=1)):
        assert other.computed == 40 * other.views
    shutil.rmtree(cache_dir() / "activations")
    np.testing.assert_array_equal(run(Brighter()).values, first.values)


def test_other_weights_other_images_other_activations(table, lower):
    activations(table, lower, preprocessing=PREPROCESSING, engine="keras")
    assert activations(table, small_backbone(1), preprocessing=PREPROCESSING, engine="keras").computed == 40
    assert activations(table, lower, preprocessing=PREPROCESSING, engine="keras", indices=[1]).computed == 1


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "record"])
def test_a_damaged_file_is_computed_again_with_a_warning(table, lower, damage, caplog):
    first = np.array(activations(table, lower, preprocessing=PREPROCESSING, engine="keras").values)
    (array,), (record,) = (sorted((cache_dir() / "activations").glob(f"*{end}")) for end in (".npy", ".json"))
    content = bytearray(array.read_bytes())
    content[5000] ^= 1
    if damage == "flip":
        array.write_bytes(content)
    elif damage == "cut":
        array.write_bytes(content[:-10])
    elif damage == "remove":
        array.unlink()
    else:
        record.write_text(record.read_text()[:-20])
    with caplog.at_level(logging.WARNING, logger="keras_transfer"):
        again = activations(table, lower, preprocessing=PREPROCESSING, engine="keras")
    assert again.computed == 40 and "computed again" in caplog.text
    np.testing.assert_array_equal(again.values, first)


def test_numbers_beyond_float16_are_kept_in_float32_with_a_warning(table, lower, caplog):
    loud = keras.Model(lower.inputs[0], keras.layers.Rescaling(1e6)(lower.outputs[0]))
    with caplog.at_level(logging.WARNING, logger="keras_transfer"):
        kept = activations(table, loud, preprocessing=PREPROCESSING, engine="keras")
    assert kept.values.dtype == np.float32 and "65504" in caplog.text
    assert close(kept.take([0, 1]), plain(table, loud, [0, 1]))
    assert activations(table, loud, preprocessing=PREPROCESSING, engine="keras").computed == 0


def test_numbers_that_are_not_finite_are_refused_and_nothing_stays(table, lower):
    broken = keras.Model(lower.inputs[0], keras.layers.Rescaling(float("nan"))(lower.outputs[0]))
    with pytest.raises(DataError, match="not finite"):
        activations(table, broken, preprocessing=PREPROCESSING, engine="keras")
    assert list((cache_dir() / "activations").iterdir()) == []


def test_too_little_space_is_found_before_the_work(table, lower, monkeypatch):
    def run():
        return activations(table, lower, preprocessing=PREPROCESSING, engine="keras")

    usage = shutil.disk_usage("/")
    monkeypatch.setattr(activation_files.shutil, "disk_usage", lambda _: usage._replace(free=200_000))
    needed = r"activations of 40 images \(1 view each\) need 0\.28 MB"
    with pytest.raises(CacheError, match=needed + r"; 0\.20 MB are free.*--cache-boundary off"):
        run()
    monkeypatch.undo()
    monkeypatch.setenv("KERAS_TRANSFER_CACHE_SIZE", "200K")
    with pytest.raises(CacheError, match=needed + ".*KERAS_TRANSFER_CACHE_SIZE"):
        run()


def test_where_litert_is_refused_keras_computes(table, lower, monkeypatch, caplog):
    def fail(*_, **__):
        raise ExportError("no such operator")

    monkeypatch.setattr(engines, "convert", fail)
    with caplog.at_level(logging.WARNING, logger="keras_transfer"):
        kept = activations(table, lower, preprocessing=PREPROCESSING, engine="litert")
    assert kept.engine == "keras" and "no such operator" in caplog.text
    assert close(kept.take([5]).astype("float32"), plain(table, lower, [5]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "magic"}, "engine"),
        ({"views": 2}, "without an augmenter"),
        ({"views": 0}, "views=0"),
        ({"indices": []}, "at least one image"),
        ({"indices": [40]}, "0 to 39"),
    ],
)
def test_impossible_arguments_are_refused(table, lower, options, message):
    with pytest.raises(UsageError, match=message):
        activations(table, lower, preprocessing=PREPROCESSING, **options)


def test_the_cache_knows_them(table, lower):
    activations(table, lower, preprocessing=PREPROCESSING, engine="keras")
    cache = FeatureCache()
    (row,) = (row for row in cache.entries() if row["kind"] == "activations")
    assert row["images"] == 40 and "48x48" in row["summary"]
    assert row["bytes"] >= 40 * 12 * 12 * 24 * 2
    assert cache.prune(max_bytes=10**9) == 0
    assert cache.prune(max_bytes=0) >= row["bytes"] and cache.entries() == []
    activations(table, lower, preprocessing=PREPROCESSING, engine="keras")
    assert cache.clear() == row["bytes"]


def test_dropout_of_trained_layers_is_off_when_the_backbone_is_in_inference_mode():
    model = residual_classifier(rate=0.5, dropout=0.25)
    set_trainable(model, "all")
    with frozen_dropout_off(model, trained_too=True) as off:
        assert off == ["a_drop"] and model.get_layer("head_dropout").rate == 0.25
    assert model.get_layer("a_drop").rate == 0.5
