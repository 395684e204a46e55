"""Heads on embeddings: each equals what scikit-learn (or the formula) says, and ends as a plain Keras model."""

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import log_loss
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.preprocessing import StandardScaler, normalize
from sklearn.svm import SVC, LinearSVC

from keras_transfer.backbones import load_backbone
from keras_transfer.errors import DataError, UsageError
from keras_transfer.heads import logits_model
from keras_transfer.training import svm
from keras_transfer.training.embedding_heads import KINDS, fit_embedding_head
from keras_transfer.training.neighbours import MOST_STORED

TRAIN, VAL, TEST = np.arange(120), np.arange(120, 180), np.arange(180, 300)


def problem(classes=3, count=300, dimensions=12, seed=0):
    """Overlapping clouds of positive features around directions of their own."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    centres = rng.uniform(0, 2, size=(classes, dimensions))
    return np.abs(centres[labels] + 0.7 * rng.normal(size=(count, dimensions))).astype("float32"), labels


def identity(dimensions):
    """An extractor whose features are its input."""
    features = keras.Input((dimensions,))
    return keras.Model(features, keras.layers.Identity()(features), name="tiny")


def fit(kind, x, y, classes, **options):
    options = {"train": TRAIN, "val": VAL, **options}
    return fit_embedding_head(identity(x.shape[1]), kind, x, y, classes, **options)


def answer(model, x):
    return np.asarray(model(x, training=False))


def logits_of(head, x):
    return answer(logits_model(head.model), x).astype("float64")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [2, 4])
def test_every_kind_learns_and_ends_in_logits_and_probabilities(kind, classes):
    x, y = problem(classes)
    result = fit(kind, x, y, classes)
    assert [layer.name for layer in result.model.layers][-2:] == ["logits", "probabilities"]
    chance = answer(result.model, x)
    assert chance.shape == (len(x), classes)
    np.testing.assert_allclose(chance.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(answer(result.head, x), chance, atol=1e-6)
    np.testing.assert_allclose(keras.ops.softmax(logits_of(result, x)), chance, atol=1e-6)
    assert np.mean(chance[TEST].argmax(1) == y[TEST]) > 0.75
    assert log_loss(y[TEST], chance[TEST]) < 0.6 * np.log(classes)
    assert result.chosen_on == "validation"
    assert any(all(trial[name] == value for name, value in result.chosen.items()) for trial in result.trials)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_without_validation_images_cross_validation_chooses_and_one_seed_gives_one_model(kind):
    x, y = problem()
    first, second = (fit(kind, x, y, 3, val=np.arange(0), seed=3) for _ in range(2))
    assert first.chosen_on == "cross-validation"
    assert first.trials == second.trials
    for a, b in zip(first.model.get_weights(), second.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.mean(answer(first.model, x[TEST]).argmax(1) == y[TEST]) > 0.75


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["rbf", "linear", "linear for many images"])
@pytest.mark.parametrize("classes", [2, 4])
def test_the_logits_are_scikit_learns_decision_values_on_a_scale_of_their_own(machine, classes, monkeypatch):
    many = machine == "linear for many images"
    if many:
        monkeypatch.setattr(svm, "MOST_ROWS", 50)
    x, y = problem(classes)
    result = fit("svm-rbf" if machine == "rbf" else "svm", x, y, classes)
    scaler = StandardScaler().fit(x[TRAIN])
    scaler.scale_ = np.sqrt(np.maximum(scaler.var_, np.median(scaler.var_)))  # no axis is blown up
    scaled = scaler.transform(x) / np.sqrt(x.shape[1])
    kernel = "rbf" if machine == "rbf" else "linear"
    logits = logits_of(result, x[TEST])
    for one, logit in enumerate(logits.T):
        reference = LinearSVC(**result.chosen) if many else SVC(**result.chosen, kernel=kernel, tol=1e-5)
        values = reference.fit(scaled[TRAIN], y[TRAIN] == one).decision_function(scaled[TEST])
        slope, offset = np.polyfit(values, logit, 1)
        assert slope > 0
        np.testing.assert_allclose(slope * values + offset, logit, atol=1e-4 * np.ptp(logit))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["svm", "svm-rbf"])
def test_an_svm_that_learned_noise_is_not_sure_of_it(kind):
    x, _ = problem()
    y = np.random.default_rng(1).integers(0, 3, len(x))
    chance = answer(fit(kind, x, y, 3).model, x[TEST])
    assert log_loss(y[TEST], chance) < np.log(3) + 0.1


def test_neighbours_vote_as_in_scikit_learn():
    x, y = problem()
    result = fit("knn", x, y, 3)
    k, temperature = result.chosen["k"], result.chosen["temperature"]
    reference = KNeighborsClassifier(k, metric="cosine", weights=lambda d: np.exp((1 - d) / temperature))
    votes = reference.fit(x[TRAIN], y[TRAIN]).predict_proba(x[TEST])
    expected = (k * votes + 1 / 3) / (k + 1)
    np.testing.assert_allclose(answer(result.model, x[TEST]), expected, atol=1e-4)
    best = min(result.trials, key=lambda trial: trial["val_loss"])
    assert best["val_loss"] == pytest.approx(log_loss(y[VAL], answer(result.model, x[VAL])), abs=1e-4)


def test_equally_near_neighbours_all_vote_in_whatever_order_they_are_stored():
    x, y = problem()
    x[:120], x[120:180] = np.repeat(x[:60], 2, axis=0), x[:60]  # every stored image twice, of any class
    one = answer(fit("knn", x, y, 3).model, x[TEST])
    other = answer(fit("knn", x, y, 3, train=TRAIN[::-1]).model, x[TEST])
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_prototypes_are_class_means():
    x, y = problem(4)
    result = fit("prototype", x, y, 4)
    z = normalize(x)
    centres = NearestCentroid().fit(z[TRAIN], y[TRAIN]).centroids_
    distances = ((z[TEST][:, None] - centres) ** 2).sum(axis=2)
    scores = np.exp(-distances * result.chosen["scale"])
    np.testing.assert_allclose(
        answer(result.model, x[TEST]), scores / scores.sum(axis=1, keepdims=True), atol=1e-5
    )
    assert result.chosen["scale"] == min(result.trials, key=lambda trial: trial["val_loss"])["scale"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_weight_zero_is_absence_and_an_absent_class_is_never_predicted(kind):
    x, y = problem(4)
    weight = np.where(y == 2, 0.0, 1.0)
    weighted = fit(kind, x, y, 4, sample_weight=weight)
    left_out = fit(kind, x, y, 4, train=TRAIN[y[TRAIN] != 2])
    chance = answer(weighted.model, x)
    np.testing.assert_array_equal(chance, answer(left_out.model, x))
    assert chance[:, 2].max() < 1e-8
    # Nor far from everything that was seen, where linear scores grow without bound.
    far = answer(weighted.model, 1000 * x[TEST][:, ::-1])
    assert np.all(np.isfinite(far)) and far[:, 2].max() < 1e-8


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["svm", "svm-rbf"])
def test_weights_count(kind):
    x, _ = problem(2)
    y = np.random.default_rng(1).integers(0, 2, len(x))  # nothing to learn but how often each class counts
    plain = answer(fit(kind, x, y, 2).model, x[TEST])
    heavy = answer(fit(kind, x, y, 2, sample_weight=np.where(y == 1, 20.0, 1.0)).model, x[TEST])
    assert heavy[:, 1].mean() > plain[:, 1].mean() + 0.2


@pytest.mark.nightly
def test_the_extractor_stays_as_it_is_and_may_hold_operations_of_any_name():
    x, y = problem()
    keras.backend.clear_session()  # what a new process does to the numbering of operations
    features = keras.Input((x.shape[1],))
    log = keras.ops.log(keras.ops.exp(features))
    body = keras.layers.Dense(12)(keras.ops.multiply(keras.ops.subtract(log, 1.0), 2.0))
    extractor = keras.Model(features, body)
    before = [weight.copy() for weight in extractor.get_weights()]
    values = answer(extractor, x)
    for kind in ("svm-rbf", "knn"):
        keras.backend.clear_session()
        result = fit_embedding_head(extractor, kind, values, y, 3, train=TRAIN, val=VAL)
        np.testing.assert_allclose(answer(result.model, x), answer(result.head, values), atol=1e-5)
    for a, b in zip(before, extractor.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_cannot_be_fitted_is_refused():
    x, y = problem()
    with pytest.raises(UsageError, match="Did you mean svm-rbf"):
        fit("svm_rbf", x, y, 3)
    with pytest.raises(UsageError, match=r"heads\.split_head"):
        fit_embedding_head(identity(5), "svm", x, y, 3, train=TRAIN, val=VAL)
    with pytest.raises(UsageError, match=r"labels \(10,\)"):
        fit("svm", x, y[:10], 3)
    with pytest.raises(UsageError, match="300 images"):
        fit("svm", x, y, 3, train=np.arange(301))
    with pytest.raises(DataError, match="0 to 1 are expected"):
        fit("svm", x, y, 2)
    with pytest.raises(DataError, match="at least 2"):
        fit("svm", x, y, 3, train=np.flatnonzero(y == 0))
    with pytest.raises(DataError, match="at least 2"):
        fit("svm", x, y, 3, train=np.arange(0))
    with pytest.raises(DataError, match="negative"):
        fit("svm", x, y, 3, sample_weight=-np.ones(len(y)))
    few = np.concatenate([np.flatnonzero(y == 0)[:5], np.flatnonzero(y == 1)[:1]])
    with pytest.raises(DataError, match="calibrating an SVM takes at least 2"):
        fit("svm", x, y, 3, train=few)
    with pytest.raises(DataError, match="class 1, for one"):
        fit("prototype", x, y, 3, train=few, val=np.arange(0))
    x[0, 0] = np.nan
    with pytest.raises(DataError, match="NaN"):
        fit("prototype", x, y, 3)


def test_one_image_a_class_is_enough_for_prototypes_and_neighbours():
    x, y = problem()
    one_each = np.array([np.flatnonzero(y == c)[0] for c in range(3)])
    for kind in ("prototype", "knn"):
        chance = answer(fit(kind, x, y, 3, train=one_each).model, x[one_each])
        assert chance.argmax(1).tolist() == [0, 1, 2]


def test_too_many_images_to_remember_are_refused_with_their_size():
    count = MOST_STORED + 1
    x, y = np.ones((count, 4), "float32"), np.arange(count) % 2
    everything = {"train": np.arange(count), "val": np.arange(4)}
    with pytest.raises(UsageError, match=r"20001 of 4 features are 0 MB.*prototype"):
        fit("knn", x, y, 2, **everything)
    with pytest.raises(UsageError, match="kind='svm'"):
        fit("svm-rbf", x, y, 2, **everything)


@pytest.fixture(scope="module")
def regions(photos):
    """A real problem: from which quarter of which photograph is a crop? ``(extractor, crops, features, labels)``."""
    rng = np.random.default_rng(0)
    crops, labels = [], []
    for position, photo in enumerate(photos.values()):
        h, w = photo.shape[0] // 2, photo.shape[1] // 2
        for index in range(280):
            quarter = index % 4
            top = rng.integers(0, h - 64) + h * (quarter // 2)
            left = rng.integers(0, w - 64) + w * (quarter % 2)
            crop = Image.fromarray(photo[top : top + 64, left : left + 64]).resize((96, 96))
            crops.append(np.asarray(crop))
            labels.append(4 * position + quarter)
    pixels, extractor = np.stack(crops).astype("float32"), load_backbone("efficientnet_lite0", image_size=96)
    extractor = keras.Model(
        extractor.input, keras.layers.GlobalAveragePooling2D(name="head_pooling")(extractor.output)
    )
    return extractor, pixels, extractor.predict(pixels, batch_size=32, verbose=0), np.array(labels)


def directly(kind, chosen, x, y):
    """What scikit-learn alone makes of it."""
    if kind == "knn":
        k, temperature = chosen["k"], chosen["temperature"]
        return KNeighborsClassifier(k, metric="cosine", weights=lambda d: np.exp((1 - d) / temperature)).fit(
            x, y
        )
    if kind == "prototype":
        return NearestCentroid().fit(x, y)
    return SVC(C=10, kernel="rbf" if kind == "svm-rbf" else "linear").fit(x, y)


@pytest.mark.nightly
def test_from_real_images_every_kind_learns_as_scikit_learn_does_and_answers_alike_anywhere(
    regions, answers_alike_anywhere
):
    extractor, pixels, features, labels = regions
    rows = np.random.default_rng(1).permutation(len(labels))
    train, val, test = rows[:280], rows[280:400], rows[400:]
    for kind in KINDS:
        result = fit_embedding_head(extractor, kind, features, labels, 8, train=train, val=val)
        chance = answer(result.head, features[test])
        values = StandardScaler().fit(features[train]).transform(features)
        values = values if kind.startswith("svm") else normalize(features)
        reference = directly(kind, result.chosen, values[train], labels[train])
        accuracy = np.mean(chance.argmax(1) == labels[test])
        assert accuracy > reference.score(values[test], labels[test]) - 0.03, kind
        assert accuracy > 0.5, kind
        np.testing.assert_allclose(answer(result.model, pixels[test[:24]]), chance[:24], atol=1e-4)
        answers_alike_anywhere(result.model, pixels[test[:24]])
