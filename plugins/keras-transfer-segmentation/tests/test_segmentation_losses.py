"""Losses: equal to slow references, best where the prediction is, deaf to ignored pixels."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras_transfer_segmentation.losses import (
    LOSSES,
    CrossEntropy,
    Dice,
    Focal,
    LovaszSoftmax,
    SegmentationLoss,
    Tversky,
    WeightedSum,
    parse_spec,
)

from keras_transfer.errors import UsageError

CLASSES = 3
WEIGHTS = [0.5, 2.0, 1.0]
ALL = [*LOSSES, "cross_entropy+0.5*dice"]


def make(spec, **arguments):
    return LOSSES[spec](**arguments) if spec in LOSSES else WeightedSum(spec, **arguments)


def example(seed=0, batch=2, height=4, width=5, ignored=0.2):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, (batch, height, width)).astype(np.uint8)
    labels[rng.random(labels.shape) < ignored] = 255
    logits = rng.normal(size=(batch, height, width, CLASSES)).astype(np.float32) * 2
    return labels, logits


def softmax(logits):
    e = np.exp(logits.astype(float) - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def pixels_of(labels, probabilities):
    """[(true class, its probabilities)] of one image's pixels that count."""
    return [
        (int(c), p)
        for c, p in zip(labels.ravel(), probabilities.reshape(-1, CLASSES), strict=True)
        if c != 255
    ]


def mean_over_classes(values, weights):
    return sum(weights[c] * value for c, value in values.items()) / sum(weights[c] for c in values)


def reference_focal(pixels, weights, gamma):
    values = [(weights[c], -np.log(p[c]) * (1 - p[c]) ** gamma) for c, p in pixels]
    return sum(w * v for w, v in values) / sum(w for w, _ in values)


def reference_tversky(pixels, weights, alpha, beta):
    values = {}
    for c in {c for c, _ in pixels}:
        hit = sum(p[c] for true, p in pixels if true == c)
        false_positive = sum(p[c] for true, p in pixels if true != c)
        false_negative = sum(1 - p[c] for true, p in pixels if true == c)
        values[c] = 1 - hit / (hit + alpha * false_positive + beta * false_negative)
    return mean_over_classes(values, weights)


def reference_lovasz(pixels, weights):
    """From the definition: pixels by falling error, each times how much the set function 1 - IoU grows by it."""

    def jaccard_loss(c, wrong):
        truth = {i for i, (true, _) in enumerate(pixels) if true == c}
        return len(wrong) / len(truth | wrong)

    values = {}
    for c in {c for c, _ in pixels}:
        errors = [abs((true == c) - p[c]) for true, p in pixels]
        wrong, value, before = set(), 0.0, 0.0
        for i in sorted(range(len(pixels)), key=lambda i: -errors[i]):
            wrong = wrong | {i}
            after = jaccard_loss(c, wrong)
            value += errors[i] * (after - before)
            before = after
        values[c] = value
    return mean_over_classes(values, weights)


REFERENCES = {
    "cross_entropy": lambda pixels, weights: reference_focal(pixels, weights, 0),
    "focal": lambda pixels, weights: reference_focal(pixels, weights, 2),
    "dice": lambda pixels, weights: reference_tversky(pixels, weights, 0.5, 0.5),
    "tversky": lambda pixels, weights: reference_tversky(pixels, weights, 0.3, 0.7),
    "lovasz": reference_lovasz,
    "cross_entropy+0.5*dice": lambda pixels, weights: (
        reference_focal(pixels, weights, 0) + 0.5 * reference_tversky(pixels, weights, 0.5, 0.5)
    ),
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("from_logits", [False, True])
def test_equal_to_the_reference(name, weights, from_logits):
    for seed in range(3):
        labels, logits = example(seed)
        p = softmax(logits)
        loss = make(name, from_logits=from_logits, class_weights=weights, reduction="none")
        got = np.array(loss(labels, logits if from_logits else p.astype(np.float32)))
        expected = [
            REFERENCES[name](pixels_of(*one), weights or [1.0] * CLASSES)
            for one in zip(labels, p, strict=True)
        ]
        np.testing.assert_allclose(got, expected, rtol=2e-5)
        mean = make(name, from_logits=from_logits, class_weights=weights)
        assert float(mean(labels, logits if from_logits else p)) == pytest.approx(np.mean(expected), rel=2e-5)


@pytest.mark.parametrize("name", ALL)
def test_perfect_is_zero_and_worst_is_largest(name):
    labels, _ = example(ignored=0.2)
    one_hot = np.eye(CLASSES, dtype=np.float32)
    known = np.where(labels == 255, 0, labels)
    loss = make(name)
    perfect, worst = float(loss(labels, one_hot[known])), float(loss(labels, one_hot[(known + 1) % CLASSES]))
    assert perfect == pytest.approx(0, abs=1e-6)
    if name in ("dice", "tversky", "lovasz"):
        assert worst == pytest.approx(1, abs=1e-6)
    else:
        assert worst >= -np.log(1e-7) - 1e-3
    for seed in range(3):
        assert perfect < float(loss(labels, softmax(example(seed)[1]))) < worst


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("from_logits", [False, True])
def test_predictions_for_ignored_pixels_change_nothing(name, from_logits):
    labels, logits = example(ignored=0.4)
    other = logits.copy()
    other[labels == 255] = np.random.default_rng(5).normal(size=((labels == 255).sum(), CLASSES)) * 9
    if not from_logits:
        logits, other = (softmax(values).astype(np.float32) for values in (logits, other))
    other[labels == 255, 0] = np.nan  # not even this
    loss = make(name, from_logits=from_logits, class_weights=WEIGHTS)
    values, gradients = [], []
    for prediction in (logits, other):
        prediction = tf.constant(prediction)
        with tf.GradientTape() as tape:
            tape.watch(prediction)
            value = loss(labels, prediction)
        values.append(float(value))
        gradients.append(tape.gradient(value, prediction).numpy())
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    np.testing.assert_allclose(gradients[0], gradients[1], atol=1e-7)
    assert not gradients[1][labels == 255].any()
    assert np.abs(gradients[1][labels != 255]).max() > 0


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("from_logits", [False, True])
def test_gradients_are_finite_at_the_extremes(name, from_logits):
    labels, _ = example(ignored=0.2)
    labels[0] = 255  # an image where nothing counts
    known = np.where(labels == 255, 0, labels)
    for shift in (0, 1):  # exactly right, exactly wrong
        prediction = np.eye(CLASSES, dtype=np.float32)[(known + shift) % CLASSES]
        prediction = tf.constant((prediction * 200 - 100) if from_logits else prediction)
        with tf.GradientTape() as tape:
            tape.watch(prediction)
            value = make(name, from_logits=from_logits, reduction="none")(labels, prediction)
        assert np.isfinite(value.numpy()).all()
        assert value[0] == 0
        assert np.isfinite(tape.gradient(value, prediction).numpy()).all()


@pytest.mark.parametrize("name", ALL)
def test_a_step_against_the_gradient_makes_the_loss_smaller(name):
    labels, logits = example()
    loss = make(name, from_logits=True)
    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        before = loss(labels, variable)
    variable.assign_sub(0.1 * tape.gradient(before, variable))
    assert float(loss(labels, variable)) < float(before)


@pytest.mark.parametrize("name", ALL)
def test_a_loss_comes_back_from_its_configuration(name):
    labels, logits = example()
    loss = make(name, from_logits=True, class_weights=WEIGHTS, ignore_index=2, name="mine", reduction="sum")
    back = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(back) is type(loss)
    assert back.get_config() == loss.get_config()
    assert float(back(labels, logits)) == float(loss(labels, logits))


def test_parameters_come_back_and_matter():
    labels, logits = example()
    for loss, plain in ((Focal(gamma=1.5), Focal()), (Tversky(alpha=0.9, beta=0.2), Tversky())):
        back = keras.losses.deserialize(keras.losses.serialize(loss))
        p = softmax(logits)
        assert float(back(labels, p)) == float(loss(labels, p)) != float(plain(labels, p))


@pytest.mark.slow
@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.floats(0, 1))
def test_losses_are_where_they_should_be(seed, side, ignored):
    labels, logits = example(seed, batch=1, height=side, width=side, ignored=ignored)
    p = softmax(logits).astype(np.float32)
    for name in ("dice", "tversky", "lovasz"):
        assert -1e-6 <= float(make(name)(labels, p)) <= 1 + 1e-6
    assert float(Focal(gamma=0)(labels, p)) == pytest.approx(float(CrossEntropy()(labels, p)), rel=1e-6)
    assert float(Focal()(labels, p)) <= float(CrossEntropy()(labels, p)) + 1e-6
    halves = Tversky(alpha=0.5, beta=0.5)
    assert float(Dice()(labels, p)) == pytest.approx(float(halves(labels, p)), abs=1e-6)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_lovasz_of_a_hard_prediction_is_one_minus_iou(seed):
    rng = np.random.default_rng(seed)
    labels, predicted = rng.integers(0, CLASSES, (2, 1, 4, 4))
    ious = [
        ((labels == c) & (predicted == c)).sum() / ((labels == c) | (predicted == c)).sum()
        for c in np.unique(labels)
    ]
    value = float(LovaszSoftmax()(labels, np.eye(CLASSES, dtype=np.float32)[predicted]))
    assert value == pytest.approx(1 - np.mean(ious), abs=1e-5)


@pytest.mark.slow
def test_models_train_on_them_with_masks_of_either_shape():
    labels, _ = example(batch=4)
    images = np.eye(CLASSES)[np.where(labels == 255, 0, labels)]
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((4, 5, 3)), keras.layers.Conv2D(CLASSES, 1), keras.layers.Softmax()]
    )
    model.compile(keras.optimizers.Adam(0.1), WeightedSum("cross_entropy+lovasz"))
    before = model.evaluate(images, labels, verbose=0)
    assert model.evaluate(images, labels[..., None], verbose=0) == pytest.approx(before, rel=1e-6)
    model.fit(images, labels, epochs=15, verbose=0)
    assert model.evaluate(images, labels, verbose=0) < 0.5 * before


def test_sample_weights_count_images():
    labels, logits = example()
    loss = CrossEntropy(from_logits=True, reduction="sum")
    alone = float(loss(labels[:1], logits[:1]))
    assert float(loss(labels, logits, sample_weight=np.array([1.0, 0.0]))) == pytest.approx(alone, rel=1e-6)


def test_indices_stay_exact_under_mixed_precision():
    previous = keras.config.floatx()
    keras.config.set_floatx("float16")
    try:
        loss = CrossEntropy(ignore_index=4001)
    finally:
        keras.config.set_floatx(previous)
    labels = np.array([[[0, 4001]]], np.int32)
    p = np.array([[[[0.25, 0.75], [0.5, 0.5]]]], np.float32)
    assert float(loss(labels, p)) == pytest.approx(-np.log(0.25), rel=1e-6)


def test_specs_are_read():
    assert parse_spec("cross_entropy") == [(1.0, "cross_entropy")]
    assert parse_spec(" 2*focal + .5 * dice+1.*lovasz") == [(2.0, "focal"), (0.5, "dice"), (1.0, "lovasz")]


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("", "cannot be read"),
        ("dice+", "cannot be read at ''"),
        ("dice*2", r"cannot be read at 'dice\*2'"),
        ("-1*dice", "cannot be read"),
        ("0*dice", "weight of dice"),
        ("dice+dice", "twice"),
        ("dise", r"no loss 'dise'\. Did you mean dice"),
    ],
)
def test_specs_that_cannot_be_read_are_refused(spec, named):
    with pytest.raises(UsageError, match=named):
        WeightedSum(spec)


@pytest.mark.slow
@given(st.text(max_size=20))
def test_any_text_is_read_or_refused(text):
    try:
        terms = parse_spec(text)
    except UsageError:
        return
    assert terms
    assert all(weight > 0 and name in LOSSES for weight, name in terms)


@pytest.mark.parametrize(
    "make_loss",
    [
        lambda: Focal(gamma=0.5),
        lambda: Tversky(alpha=0),
        lambda: Tversky(beta=float("nan")),
        lambda: Dice(class_weights=[0, 0, 0]),
        lambda: Dice(class_weights=[1, -1, 1]),
        lambda: Dice(class_weights=[1, 1])(*example()),
    ],
)
def test_impossible_parameters_are_refused(make_loss):
    with pytest.raises(UsageError):
        make_loss()


def test_the_base_class_is_not_a_loss():
    with pytest.raises(NotImplementedError):
        SegmentationLoss()(*example())
