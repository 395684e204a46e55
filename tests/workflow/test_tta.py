"""Test-time augmentation: fixed views, and the mean of the model's answers."""

from __future__ import annotations

import numpy as np
import pytest

from keras_transfer.errors import UsageError
from keras_transfer.inference.tta import MAX_VIEWS, tta_predict, tta_views


@pytest.fixture(scope="module")
def pixels(photos) -> np.ndarray:
    return np.stack([photo[100:180, 200:270] for photo in photos.values()])


def colours(batch: np.ndarray) -> np.ndarray:
    """Shares of red, green and blue in the left half: probabilities that depend on what lies where."""
    sums = batch[:, :, : batch.shape[2] // 2].sum(axis=(1, 2), dtype=np.float64)
    return (sums / sums.sum(axis=1, keepdims=True)).astype(np.float32)


def test_the_views_are_different_pictures_of_the_same(pixels):
    before = pixels.copy()
    views = tta_views(pixels, MAX_VIEWS)
    assert len(views) == MAX_VIEWS == 12
    assert all(view.dtype == np.uint8 and view.shape == pixels.shape for view in views)
    assert len({view.tobytes() for view in views}) == MAX_VIEWS
    assert np.array_equal(views[0], pixels) and np.array_equal(views[1], pixels[:, :, ::-1])
    assert np.array_equal(pixels, before)
    for crop, mirrored in zip(views[2:7], views[7:], strict=True):
        assert np.array_equal(mirrored, crop[:, :, ::-1])
        assert abs(crop.mean() - pixels.mean()) < 8


@pytest.mark.parametrize("count", range(1, MAX_VIEWS + 1))
def test_fewer_views_are_the_first_ones(pixels, count):
    views = tta_views(pixels, count)
    assert len(views) == count
    assert all(np.array_equal(a, b) for a, b in zip(views, tta_views(pixels, MAX_VIEWS)[:count], strict=True))


def test_a_crop_shows_its_part(pixels):
    """The corner views hold their corner; the centre view leaves all edges out."""
    centre, *corners = (view[0] for view in tta_views(ramp(), 7)[2:])
    for image, (right, down) in zip(corners, [(0, 0), (1, 0), (0, 1), (1, 1)], strict=True):
        assert (image[..., 0].max() > 196) == bool(right)  # red grows to the right
        assert (image[..., 1].max() > 196) == bool(down)  # green grows downwards
    assert centre[..., :2].min() >= 8 and centre[..., :2].max() <= 192


def ramp() -> np.ndarray:
    across = np.linspace(0, 200, 100)
    image = np.stack([*np.meshgrid(across, across), np.zeros((100, 100))], axis=2)
    return image[None].astype(np.uint8)


def test_one_view_is_plain_prediction(pixels):
    calls = []

    def predict(batch):
        calls.append(batch)
        return colours(batch)

    answer = tta_predict(predict, pixels, 1)
    assert len(calls) == 1 and calls[0] is pixels
    assert np.array_equal(answer, colours(pixels))


@pytest.mark.parametrize("views", [2, 5, 12])
def test_the_answer_is_the_mean(pixels, views):
    answer = tta_predict(colours, pixels, views)
    expected = np.mean([colours(view) for view in tta_views(pixels, views)], axis=0)
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer, expected, atol=1e-6)
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-6)
    assert np.array_equal(answer, tta_predict(colours, pixels, views))


def test_two_views_make_a_model_blind_to_left_and_right(pixels):
    mirrored = np.ascontiguousarray(pixels[:, :, ::-1])
    assert not np.allclose(colours(pixels), colours(mirrored))
    np.testing.assert_allclose(tta_predict(colours, pixels, 2), tta_predict(colours, mirrored, 2), atol=1e-6)


def test_bad_arguments(pixels):
    for views in (0, -1, 13, 2.0, True):
        with pytest.raises(UsageError, match="1 to 12"):
            tta_views(pixels, views)
        with pytest.raises(UsageError, match="1 to 12"):
            tta_predict(colours, pixels, views)
    for bad in (pixels[0], pixels.astype(np.float32), pixels[..., :1]):
        with pytest.raises(UsageError, match="uint8"):
            tta_views(bad, 2)


def test_an_empty_batch(pixels):
    assert tta_predict(lambda batch: np.zeros((len(batch), 3)), pixels[:0], 6).shape == (0, 3)
