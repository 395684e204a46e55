"""What the metrics promise: right on samples whose answer is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras_transfer_gan.drawing import between
from keras_transfer_gan.features import as_table, metric_backbone
from keras_transfer_gan.measuring import compare_kernels, memorised
from keras_transfer_gan.metrics import diversity, fid, kid, nearest, precision_recall

from keras_transfer.features import extract
from keras_transfer.preprocessing import Preprocessing


def samples(seed, count, width=8, shift=0.0, scale=1.0):
    return np.random.default_rng(seed).normal(shift, scale, (count, width))


def test_kid_is_the_mean_over_all_pairs_of_different_images():
    x, y = samples(0, 6), samples(1, 6, shift=0.3)
    terms = []
    for i in range(6):
        for j in range(6):
            if i != j:
                values = (x[i] @ x[j], y[i] @ y[j], x[i] @ y[j], x[j] @ y[i])
                a, b, c, d = ((value / 8 + 1) ** 3 for value in values)
                terms.append(a + b - c - d)
    assert kid(x, y).value == pytest.approx(np.mean(terms), rel=1e-12)


def test_kid_of_equal_populations_is_zero_on_average_whatever_the_number_of_images():
    for count in (5, 40):
        found = [kid(samples(seed, count), samples(1000 + seed, count)).value for seed in range(300)]
        assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(len(found))
        assert min(found) < 0 < max(found)


def test_the_standard_error_tells_how_kid_varies():
    found = [kid(samples(seed, 60), samples(1000 + seed, 60, shift=0.5)) for seed in range(200)]
    spread = np.std([one.value for one in found])
    assert 0.7 < np.mean([one.error for one in found]) / spread < 1.4


def test_kid_grows_with_the_difference_and_needs_two_images():
    values = [kid(samples(0, 200), samples(1, 200, shift=shift)).value for shift in (0.0, 0.5, 1.0)]
    assert values == sorted(values)
    assert values[2] > 10 * abs(values[0])
    with pytest.raises(ValueError, match="at least 2"):
        kid(samples(0, 1), samples(1, 9))


def test_fid_is_the_distance_of_two_gaussians():
    x = samples(0, 4000, 3)
    assert fid(x, x) == pytest.approx(0, abs=1e-8)
    assert fid(x, x + 2.0) == pytest.approx(3 * 4, rel=1e-6)  # means only
    assert fid(x, 3 * (x - x.mean(0)) + x.mean(0)) == pytest.approx(4 * x.var(0, ddof=1).sum(), rel=1e-6)


def test_fid_is_not_told_where_covariances_are_singular():
    assert fid(samples(0, 8), samples(1, 100)) is None
    assert fid(samples(0, 9), samples(1, 100)) is not None


def test_precision_and_recall_see_what_is_wrong():
    real = np.concatenate([samples(0, 100), samples(1, 100, shift=10)])
    assert precision_recall(real, real) == (1.0, 1.0)
    assert precision_recall(real, real + 100) == (0.0, 0.0)
    precision, recall = precision_recall(real, samples(2, 200))  # one of two modes
    assert precision > 0.8
    assert recall < 0.6
    assert precision_recall(real[:4], real) == (None, None)


def test_diversity_falls_to_zero_where_all_are_alike():
    real = samples(0, 50)
    assert diversity(real, samples(1, 50)) == pytest.approx(1, abs=0.15)
    assert diversity(real, np.tile(real[:1], (50, 1))) == 0
    assert diversity(real[:1], real) is None
    assert diversity(np.ones((5, 2)), real) is None


def test_diversity_within_classes_sees_one_image_a_class():
    labels = np.repeat([0, 1], 25)
    real, other = samples(0, 50), samples(1, 50)
    apart = 100.0 * labels[:, np.newaxis]  # between classes; no matter within them
    assert diversity(real + apart, other + apart, labels) == pytest.approx(diversity(real, other), abs=0.1)
    alike = np.zeros((50, 8)) + apart
    assert diversity(real + apart, alike, labels) == 0
    assert diversity(real + apart, alike) > 0.5
    assert diversity(real[:2], other[:2], np.array([0, 1])) is None


def plain(images, name="", keep=True):
    """Pixels as features."""
    return images.reshape(len(images), -1).astype(np.float64)


def test_the_nearest_training_image_is_searched_among_all(monkeypatch):
    monkeypatch.setattr("keras_transfer_gan.measuring.features_of", plain)
    monkeypatch.setattr("keras_transfer_gan.measuring.SEARCHED", 8)
    learned = np.random.default_rng(0).integers(0, 256, (30, 4, 4, 1)).astype(np.uint8)
    held_out = np.random.default_rng(1).integers(0, 256, (9, 4, 4, 1)).astype(np.uint8)
    places, ratio = memorised(learned[[29, 3, 17]], learned, held_out)
    assert places.tolist() == [29, 3, 17] and ratio == 0
    usual = np.median(nearest(plain(held_out), plain(learned))[1])
    made = np.random.default_rng(2).integers(0, 256, (5, 4, 4, 1)).astype(np.uint8)
    there, far = nearest(plain(made), plain(learned))
    places, ratio = memorised(made, learned, held_out)
    assert places.tolist() == there.tolist()
    assert ratio == pytest.approx(np.median(far) / usual)
    assert memorised(made, learned, held_out[:0])[1] is None


@pytest.mark.nightly
def test_images_that_were_made_leave_nothing_in_the_cache():
    real, made = np.random.default_rng(0).integers(0, 256, (2, 4, 28, 28, 1)).astype(np.uint8)
    found = compare_kernels(real, made)
    assert set(found) == {"kid_lite0", "kid_lite0_error", "kid_lite0_floor"}
    cached = [
        extract(as_table(images), metric_backbone(), preprocessing=Preprocessing(size=(96, 96))).cached
        for images in (real, made)
    ]
    assert cached == [4, 0]


def test_the_nearest_is_found():
    known = samples(0, 30)
    places, distances = nearest(known[[7, 3]] + 1e-6, known)
    assert places.tolist() == [7, 3]
    assert distances.max() < 1e-4


@given(st.integers(0, 2**31), st.integers(2, 9), st.integers(2, 200))
def test_the_way_between_two_noises_keeps_to_their_lengths(seed, steps, width):
    first, second = np.random.default_rng(seed).standard_normal((2, width))
    way = between(first, second, steps)
    assert way.shape == (steps, width)
    np.testing.assert_allclose(way[0], first, atol=1e-5)
    np.testing.assert_allclose(way[-1], second, atol=1e-5)
    lengths, ends = np.linalg.norm(way, axis=1), np.linalg.norm([first, second], axis=1)
    assert lengths.max() <= ends.max() + 1e-4
    assert lengths.min() >= ends.min() - 1e-4
