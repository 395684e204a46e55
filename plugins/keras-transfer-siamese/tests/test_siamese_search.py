"""Search: the true order, whatever the comparison; an index proposes, and the truth is what it is measured on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from keras_transfer_siamese import index, search
from keras_transfer_siamese.comparison import Comparison
from keras_transfer_siamese.search import Search, largest

from keras_transfer.errors import DataError, UsageError


def comparison(kind, size):
    """A comparison of a kind, with weights where it has some."""
    if kind != "weighted_l1":
        return Comparison(kind, threshold=0.0)
    weights = np.random.default_rng(size).random(size, np.float32)
    return Comparison(kind, weights=weights, bias=1.0, threshold=0.5)


def one_by_one(kind, query, entry):
    """The comparison's definition, for two vectors, in double precision."""
    query, entry = query.astype(np.float64), entry.astype(np.float64)
    if kind == "cosine":
        return query @ entry / (np.linalg.norm(query) * np.linalg.norm(entry))
    if kind == "euclidean":
        return -np.linalg.norm(query - entry)
    rule = comparison(kind, len(query))
    return 1 / (1 + np.exp(rule.weights.astype(np.float64) @ np.abs(query - entry) - rule.bias))


@pytest.mark.parametrize("kind", ["cosine", "euclidean", "weighted_l1"])
@pytest.mark.parametrize("score", ["best", "mean"])
@settings(max_examples=40)
@given(
    owners=st.lists(st.integers(0, 5), min_size=1, max_size=30),
    size=st.integers(2, 9),
    count=st.integers(1, 8),
    seed=st.integers(0, 999),
)
def test_the_answers_are_those_of_a_loop_over_all_entries(kind, score, owners, size, count, seed):
    rng = np.random.default_rng(seed)
    entries = rng.normal(size=(len(owners), size)).astype(np.float32)
    queries = rng.normal(size=(3, size)).astype(np.float32)
    names = [f"name {owner}" for owner in owners]
    found = Search(names, entries, comparison(kind, size), score=score, most=2).top(queries, count)
    for query, matches in zip(queries, found, strict=True):
        scores = {}
        for name, entry in zip(names, entries, strict=True):
            scores.setdefault(name, []).append(one_by_one(kind, query, entry))
        told = {
            name: max(values) if score == "best" else np.mean(sorted(values)[-2:])
            for name, values in scores.items()
        }
        expected = sorted(told, key=lambda name: -told[name])[:count]
        assert len(matches) == len(expected)
        np.testing.assert_allclose(
            [one.score for one in matches], [told[name] for name in expected], atol=1e-5
        )
        np.testing.assert_allclose(
            [one.score for one in matches], [told[one.name] for one in matches], atol=1e-5
        )


@given(
    values=hnp.arrays(np.float32, st.integers(1, 60), elements=st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0])),
    count=st.integers(1, 70),
)
def test_the_largest_are_those_of_a_stable_sort(values, count):
    np.testing.assert_array_equal(largest(values, count), np.argsort(-values, kind="stable")[:count])


def test_many_queries_are_answered_in_groups(monkeypatch):
    rng = np.random.default_rng(0)
    entries, queries = (
        rng.normal(size=(50, 8)).astype(np.float32),
        rng.normal(size=(40, 8)).astype(np.float32),
    )
    names = [f"{i:02d}" for i in range(50)]
    whole = Search(names, entries, Comparison()).top(queries, 5)
    monkeypatch.setattr(search, "CHUNK", 120)
    assert [[one.name for one in row] for row in Search(names, entries, Comparison()).top(queries, 5)] == [
        [one.name for one in row] for row in whole
    ]


def test_comparing_in_blocks_changes_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    entries, queries = rng.normal(size=(50, 8)).astype(np.float32), rng.normal(size=(9, 8)).astype(np.float32)
    rule = comparison("weighted_l1", 8)
    whole = rule.scores(queries, entries)
    for block in (1, 30, 900):
        monkeypatch.setattr("keras_transfer_siamese.comparison.BLOCK", block)
        np.testing.assert_allclose(rule.scores(queries, entries), whole, rtol=1e-5)


def test_what_cannot_be_searched_is_said():
    vectors = np.ones((2, 4), np.float32)
    with pytest.raises(DataError, match=r"Nothing is enrolled.*enroll"):
        Search([], np.zeros((0, 4), np.float32), Comparison())
    with pytest.raises(DataError, match="not finite"):
        Search(["a", "b"], np.array([[1, 2], [np.nan, 1]], np.float32), Comparison())
    with pytest.raises(UsageError, match="do not fit"):
        Search(["a"], vectors, Comparison())
    with pytest.raises(UsageError, match=r"no engine 'exakt'\. Did you mean exact"):
        Search(["a", "b"], vectors, Comparison(), engine="exakt")
    with pytest.raises(UsageError, match="no score 'worst'"):
        Search(["a", "b"], vectors, Comparison(), score="worst")
    ready = Search(["a", "b"], vectors, Comparison())
    with pytest.raises(UsageError, match="at least 1"):
        ready.top(vectors, 0)
    with pytest.raises(UsageError, match=r"\(n, 4\) is expected"):
        ready.top(vectors[:, :3])
    with pytest.raises(DataError, match="not finite"):
        ready.top(np.full((1, 4), np.inf, np.float32))


def clusters(people, images, size, seed=0):
    """``images`` embeddings of each of ``people``, near their centre, and a query near each centre."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(people, size))
    near = centres.repeat(images, axis=0) + 0.5 * rng.normal(size=(people * images, size))
    names = [f"{i:05d}" for i in range(people) for _ in range(images)]
    queries = centres + 0.5 * rng.normal(size=centres.shape)
    return names, near.astype(np.float32), queries.astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cosine", "euclidean"])
@pytest.mark.parametrize("score", ["best", "mean"])
def test_the_index_finds_what_the_exact_search_finds(kind, score):
    pytest.importorskip("faiss")
    names, entries, queries = clusters(500, 3, 32)
    exact = Search(names, entries, Comparison(kind), score=score, engine="exact").top(queries[:200], 3)
    indexed = Search(names, entries, Comparison(kind), score=score, engine="index")
    assert indexed.indexed
    found = indexed.top(queries[:200], 3)
    same = [one[0].name == other[0].name for one, other in zip(exact, found, strict=True)]
    assert np.mean(same) >= 0.99
    # What it finds has the score that the exact search gives it.
    for one, other in zip(exact, found, strict=True):
        told = {row.name: row.score for row in one}
        for row in other:
            assert row.score == pytest.approx(told.get(row.name, row.score), abs=1e-4)


def test_the_index_is_built_once_and_again_when_it_is_damaged(caplog):
    pytest.importorskip("faiss")
    names, entries, queries = clusters(300, 1, 16)
    with caplog.at_level("INFO", "keras_transfer"):
        first = Search(names, entries, Comparison(), engine="index").top(queries[:5])
        assert caplog.text.count("Building the index") == 1
        assert Search(names, entries, Comparison(), engine="index").top(queries[:5]) == first
        assert caplog.text.count("Building the index") == 1
        (kept,) = (index.cache_dir() / "indexes").iterdir()
        kept.write_bytes(kept.read_bytes()[:100])
        assert Search(names, entries, Comparison(), engine="index").top(queries[:5]) == first
        assert "is damaged" in caplog.text and caplog.text.count("Building the index") == 2


def test_an_index_is_taken_by_itself_only_for_many_entries(monkeypatch):
    pytest.importorskip("faiss")
    names, entries, _ = clusters(60, 1, 16)
    assert not Search(names, entries, Comparison()).indexed
    monkeypatch.setattr(search, "EXACT", 50)
    assert Search(names, entries, Comparison()).indexed
    assert not Search(names, entries, comparison("weighted_l1", 16)).indexed
    with pytest.raises(UsageError, match="not weighted_l1"):
        Search(names, entries, comparison("weighted_l1", 16), engine="index")


def test_without_faiss_everything_is_compared(monkeypatch):
    names, entries, _ = clusters(60, 1, 16)
    monkeypatch.setattr(search, "EXACT", 50)
    monkeypatch.setattr(index, "find_spec", lambda _: None)
    assert not Search(names, entries, Comparison()).indexed
    with pytest.raises(UsageError, match=r"pip install 'keras-transfer-siamese\[index\]'"):
        Search(names, entries, Comparison(), engine="index")
