"""Loss and targets on logits, against what the formulas say."""

import keras
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from keras_transfer.data import load_data
from keras_transfer.errors import UsageError
from keras_transfer.heads import add_head
from keras_transfer.training.objective import Objective


@pytest.fixture(scope="module")
def table(photo_folder):
    return load_data(photo_folder)


def test_a_distillation_mixes_the_hard_loss_and_the_softened_teacher(table):
    rng = np.random.default_rng(0)
    teacher = softmax(rng.normal(size=(len(table), 2)), axis=1)
    logits = rng.normal(size=(len(table), 2)).astype("float32")
    objective = Objective("classes", temperature=3.0, mix=0.25)
    targets = objective.targets(table, teacher)
    assert targets.shape == (len(table), 4)
    found = float(objective.loss()(targets, logits))
    hard = -log_softmax(logits, axis=1)[np.arange(len(table)), table.labels]
    soft = -(softmax(np.log(teacher) / 3, axis=1) * log_softmax(logits / 3, axis=1)).sum(axis=1)
    assert found == pytest.approx(float(np.mean(0.75 * hard + 0.25 * 9 * soft)), rel=1e-5)
    metric = objective.metrics()[0]
    metric.update_state(targets, logits)
    assert float(metric.result()) == pytest.approx(np.mean(logits.argmax(axis=1) == table.labels))


def test_smoothing_and_focal_reach_the_loss(table):
    logits = np.random.default_rng(1).normal(size=(len(table), 2)).astype("float32")
    plain, smooth, focal = (
        float(o.loss()(o.targets(table), logits))
        for o in (Objective(), Objective(label_smoothing=0.2), Objective(focal=2.0))
    )
    chance = softmax(logits, axis=1)[np.arange(len(table)), table.labels]
    assert plain == pytest.approx(-np.log(chance).mean(), rel=1e-5)
    assert focal == pytest.approx(-((1 - chance) ** 2 * np.log(chance)).mean(), rel=1e-4)
    shares = np.eye(2)[table.labels] * 0.8 + 0.1
    assert smooth == pytest.approx(-(shares * log_softmax(logits, axis=1)).sum(axis=1).mean(), rel=1e-5)


def test_a_regression_is_trained_in_deviations_and_answers_in_units():
    features = keras.Input((3,))
    body = keras.Model(features, keras.layers.Identity()(features))
    model = add_head(body, 2, activation="linear")
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    objective = Objective("regression", centre=(100.0, 1.0), scale=(10.0, 0.1))
    plain = model.predict(x, verbose=0)
    with objective.in_training_units(model):
        standard = model.predict(x, verbose=0)
    np.testing.assert_allclose(standard * [10, 0.1] + [100, 1], plain, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(model.predict(x, verbose=0), plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "values",
    [
        {"label_mode": "boxes"},
        {"label_mode": "regression", "focal": 2.0},
        {"label_mode": "regression", "label_smoothing": 0.1},
        {"label_mode": "multilabel", "temperature": 2.0},
    ],
)
def test_what_makes_no_sense_is_refused(values):
    with pytest.raises(UsageError):
        Objective(**values)


def test_a_teacher_of_another_shape_is_refused(table):
    with pytest.raises(UsageError, match="one row per image"):
        Objective(temperature=2.0).targets(table, np.ones((3, 2)))


def test_the_multilabel_loss_is_the_mean_of_binary_ones():
    loss = Objective("multilabel").loss()
    truth, logits = np.array([[1.0, 0.0]], "float32"), np.array([[2.0, -1.0]], "float32")
    expected = np.mean([np.log1p(np.exp(-2.0)), np.log1p(np.exp(-1.0))])
    assert float(loss(truth, logits)) == pytest.approx(expected, rel=1e-5)
    assert isinstance(loss, keras.losses.Loss)
