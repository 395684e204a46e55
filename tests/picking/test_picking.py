"""Doubt, spread and batches, on numbers that can be counted by hand."""

import numpy as np
import pytest

from keras_transfer.errors import UsageError
from keras_transfer.picking.choosing import Unlabelled, choose
from keras_transfer.picking.doubt import MEASURES, doubt_of_classes, doubt_of_labels, evened
from keras_transfer.picking.label_studio import interface, task
from keras_transfer.picking.spread import distances, gradient_seeds, k_centre, weighted_clusters

SURE, HALF, EVEN = [1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3]


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        ("margin", [0, 1, 1]),
        ("entropy", [0, np.log(2) / np.log(3), 1]),
        ("confidence", [0, 0.75, 1]),
    ],
)
def test_doubt_of_classes(measure, expected):
    np.testing.assert_allclose(doubt_of_classes(np.array([SURE, HALF, EVEN]), measure), expected, atol=1e-9)


@pytest.mark.parametrize("measure", MEASURES)
def test_the_doubt_of_labels_is_largest_at_their_thresholds(measure):
    thresholds = np.array([0.2, 0.7])
    found = doubt_of_labels(np.array([[0.2, 0.7], [0.2, 0.0], [1.0, 0.0]]), thresholds, measure)
    np.testing.assert_allclose(found, [1, 0.5, 0], atol=1e-6)
    np.testing.assert_allclose(evened(np.array([[0.1, 0.85]]), thresholds), [[0.25, 0.75]])


def test_an_unknown_measure_names_the_known_ones():
    with pytest.raises(UsageError, match="Did you mean margin"):
        doubt_of_classes(np.array([SURE]), "margn")


def unit(rows):
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def around(degrees):
    angles = np.radians(degrees)
    return unit(np.stack([np.cos(angles), np.sin(angles)], axis=1))


def test_distances_are_those_to_the_nearest():
    found = distances(around([0, 90, 180]), around([0, 60]))
    np.testing.assert_allclose(found, [0, 2 * np.sin(np.radians(15)), 2 * np.sin(np.radians(60))], atol=1e-3)
    assert np.isinf(distances(around([0]), around([]).reshape(0, 2))).all()


def test_the_greedy_cover_takes_the_farthest_from_labelled_ones_and_from_what_it_took():
    values = around([0, 10, 80, 90, 170, 180])
    rows = k_centre(values, distances(values, around([0])), 3)
    assert rows.tolist()[:2] == [5, 2] or rows.tolist()[:2] == [5, 3]
    taken = {0.0, *(float(degrees) for degrees in np.array([0, 10, 80, 90, 170, 180])[rows])}
    assert len(taken) == 4
    alone = k_centre(values, np.full(6, np.inf), 2)
    assert len(set(alone.tolist())) == 2


def test_clusters_give_one_row_each_and_follow_the_weights():
    values = around([0, 1, 2, 90, 91, 92, 180, 181, 182])
    rows = weighted_clusters(values, np.ones(9), 3, 0)
    assert sorted(rows // 3) == [0, 1, 2]
    one = weighted_clusters(values[:3], np.array([0, 0, 1.0]), 1, 0)
    assert one.tolist() == [2]
    assert weighted_clusters(values, np.zeros(9), 9, 0).tolist() == list(range(9))
    same = weighted_clusters(np.repeat(values[:1], 6, axis=0), np.ones(6), 4, 0)
    assert len(set(same.tolist())) == 4


def test_gradients_are_far_apart_as_their_outer_products_are():
    """The first is the longest; drawn in proportion to the squared distance, an equal row is never taken before."""
    gradients = np.array([[0.5, -0.5], [0.5, -0.5], [0.4, -0.4], [-0.5, 0.5], [0.001, -0.001]])
    values = around([0, 0, 90, 0, 0]).astype(np.float64)
    products = np.einsum("nc,nd->ncd", gradients, values).reshape(5, -1)
    for seed in range(20):
        rows = gradient_seeds(gradients, values, 4, seed)
        assert rows[0] == 0 and len(set(rows.tolist())) == 4
        assert not {0, 1} <= set(rows.tolist()), products
    assert sorted(gradient_seeds(np.zeros((3, 2)), values[:3], 3, 0)) == [0, 1, 2]


def test_batches_are_doubtful_and_different():
    values = around([0, 1, 2, 3, 90, 91, 180])
    doubt = np.array([0.9, 0.95, 0.92, 0.91, 0.8, 0.7, 0.1])
    images = Unlabelled(values, doubt, np.stack([doubt, -doubt], 1), np.full(7, np.inf))
    assert choose(images, "margin", 2, candidates=1).tolist() == [1, 2]
    rows = choose(images, "margin", 2, candidates=3)
    assert len(set(rows // 4)) == 2, "one of the four that are alike, and one of the others"
    near = Unlabelled(values, np.ones(7), None, distances(values, around([0])))
    assert choose(near, "spread", 1).tolist() == [6]
    assert len(set(choose(images, "gradient", 3).tolist())) == 3
    beside = near.beside(np.array([6]))
    assert beside.apart[6] == 0 and beside.apart[4] == near.apart[4]


def test_label_studio_shows_an_image_its_choice_and_names_with_signs():
    one = task("a folder/ä+1.png", ["<cat>"], 0.75, "run", {"rank": 1})
    assert one["data"] == {"image": "/data/local-files/?d=a%20folder/%C3%A4%2B1.png", "rank": 1}
    prediction = one["predictions"][0]
    assert prediction["score"] == 0.75 and prediction["model_version"] == "run"
    assert prediction["result"][0]["value"] == {"choices": ["<cat>"]}
    assert task("a.png", [], 0.5, "run", {})["predictions"][0]["result"] == []
    text = interface(["<cat>", 'a "dog"'], several=False)
    from xml.etree import ElementTree

    tree = ElementTree.fromstring(text)
    control = tree.find("Choices")
    assert [one.get("value") for one in control] == ["<cat>", 'a "dog"'] and control.get("choice") == "single"
    result = prediction["result"][0]
    assert (result["from_name"], result["to_name"]) == (control.get("name"), control.get("toName"))
    assert tree.find("Image").get("name") == control.get("toName")
    assert 'choice="multiple"' in interface(["a"], several=True)
