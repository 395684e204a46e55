"""Batches: the same for seed and epoch, full, as many as an epoch has, and with something to compare."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras_transfer_siamese.samplers import ClassBatches, PairBatches, batch_size_for

from keras_transfer.errors import DataError

sizes = st.lists(st.integers(1, 9), min_size=2, max_size=9).filter(lambda s: max(s) > 1)


def table(sizes):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.append(labels, [99, 99, 98]))  # the last three are of another split
    return labels, np.flatnonzero(labels < 90)


@given(sizes=sizes, per_class=st.integers(2, 5), asked=st.integers(4, 40), seed=st.integers(0, 9))
def test_batches_are_full_and_mixed(sizes, per_class, asked, seed):
    labels, rows = table(sizes)
    size = batch_size_for(labels[rows], asked, per_class)
    order = ClassBatches(labels, per_class, size)
    first = order(rows, seed, 0)
    assert len(first) == -(-len(rows) // size) * size
    assert np.isin(first, rows).all()
    for batch in first.reshape(-1, size):
        found, counts = np.unique(labels[batch], return_counts=True)
        assert len(found) > 1 and counts.max() > 1


@pytest.mark.slow
@given(
    sizes=st.lists(st.lists(st.integers(2, 9), min_size=2, max_size=9), min_size=1, max_size=4),
    asked=st.integers(4, 40),
    seed=st.integers(0, 9),
)
def test_a_batch_is_of_one_alphabet_as_far_as_that_has_classes(sizes, asked, seed):
    labels, rows = table([size for alphabet in sizes for size in alphabet])
    alphabets = np.repeat(np.arange(len(sizes)), [len(alphabet) for alphabet in sizes])
    families = np.where(labels < 90, alphabets[np.minimum(labels, len(alphabets) - 1)], 9)
    size = batch_size_for(labels[rows], asked, 3)
    first = ClassBatches(labels, 3, size, families=families)(rows, seed, 0)
    assert len(first) == -(-len(rows) // size) * size and np.isin(first, rows).all()
    for batch in first.reshape(-1, size):
        met = np.unique(labels[batch])
        whole = [np.isin(np.flatnonzero(alphabets == one), met).all() for one in set(alphabets[met])]
        assert sum(not every for every in whole) <= 1  # the last alphabet that is needed


@given(sizes=sizes, seed=st.integers(0, 99))
def test_a_class_with_one_image_is_never_paired_with_itself(sizes, seed):
    labels, rows = table([*sizes, 1, 1])
    size = batch_size_for(labels[rows], 16, 4)
    for batch in ClassBatches(labels, 4, size)(rows, seed, 0).reshape(-1, size):
        for label in np.unique(labels[batch]):
            if (labels[rows] == label).sum() == 1:
                assert (labels[batch] == label).sum() == 1


def test_order_depends_on_seed_and_epoch_alone():
    labels, rows = table([5, 6, 7, 2])
    for order in (ClassBatches(labels, 2, 8), PairBatches(labels, 8)):
        assert np.array_equal(order(rows, 3, 4), order(rows, 3, 4))
        assert not np.array_equal(order(rows, 3, 4), order(rows, 3, 5))
        assert not np.array_equal(order(rows, 3, 4), order(rows, 2, 4))


def test_an_epoch_sees_nearly_all_images():
    labels, rows = table([8] * 8)
    seen = ClassBatches(labels, 4, 16)(rows, 0, 0)
    assert len(np.unique(seen)) >= 0.8 * len(rows)


@given(sizes=sizes, per_class=st.integers(2, 5), asked=st.integers(4, 40))
def test_batches_of_pairs_are_full(sizes, per_class, asked):
    labels, rows = table(sizes)
    size = batch_size_for(labels[rows], asked, per_class)
    found = PairBatches(labels, size)(rows, 0, 0)
    assert len(found) == -(-len(rows) // size) * size and np.isin(found, rows).all()


@given(sizes=sizes, seed=st.integers(0, 9))
def test_pairs_are_same_then_different(sizes, seed):
    labels, rows = table(sizes)
    found = PairBatches(labels, 8)(rows, seed, 1).reshape(-1, 4, 2)
    equal = labels[found[..., 0]] == labels[found[..., 1]]
    assert equal[:, :2].all() and not equal[:, 2:].any()
    assert (found[..., 0] != found[..., 1]).all()


@pytest.mark.parametrize("sizes", [[1, 1, 1], [5]])
def test_what_cannot_be_compared_is_refused(sizes):
    with pytest.raises(DataError, match="two training classes"):
        batch_size_for(np.repeat(np.arange(len(sizes)), sizes), 32, 4)
