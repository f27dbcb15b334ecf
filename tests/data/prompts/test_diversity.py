import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from catimage.data.prompts import diversity
from catimage.data.prompts.diversity import nearest_earlier, select_diverse

# The products of small integers are exact in float32, so that rounding errors do not matter.
VECTORS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 40), st.integers(1, 4)),
    elements=st.integers(-2, 2).map(float),
)


def greedy(embeddings, threshold):
    """Select one prompt at a time, as the papers define the selection."""
    kept = []
    for i, vector in enumerate(embeddings):
        if all(float(vector @ embeddings[j]) < threshold for j in kept):
            kept.append(i)
    return kept


@pytest.fixture(scope="module", autouse=True)
def small_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diversity, "BLOCK_ROWS", 5)
        patch.setattr(diversity, "BLOCK_COLUMNS", 3)
        yield


@settings(max_examples=150)
@given(VECTORS, st.sampled_from([-1.0, 0.5, 0.75, 0.999]))
def test_the_selection_in_blocks_equals_the_greedy_selection(embeddings, threshold):
    assert select_diverse(embeddings, threshold).tolist() == greedy(embeddings, threshold)


@given(VECTORS, st.integers(1, 40))
def test_prompts_added_at_the_end_do_not_change_the_selection_of_earlier_prompts(embeddings, n):
    assert select_diverse(embeddings[:n], 0.75).tolist() == [
        i for i in select_diverse(embeddings, 0.75) if i < n
    ]


@given(VECTORS)
def test_nearest_earlier_finds_the_most_similar_earlier_row(embeddings):
    products = embeddings @ embeddings.T
    values, indices = nearest_earlier(embeddings)
    for i in range(len(embeddings)):
        expected = max([-1.0, *products[i, :i]])
        assert values[i] == expected
        assert indices[i] == -1 if expected == -1 else products[i, indices[i]] == expected


def test_kept_rows_are_below_the_threshold_and_dropped_rows_above():
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(300, 6)).astype("f4")
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    kept = select_diverse(embeddings, 0.75)
    assert 20 < len(kept) < 250
    assert nearest_earlier(embeddings[kept])[0].max() < 0.75
    dropped = np.setdiff1d(np.arange(300), kept)
    assert (embeddings[dropped] @ embeddings[kept].T).max(axis=1).min() >= 0.75


def test_a_threshold_of_one_keeps_equal_embeddings():
    assert select_diverse(np.ones((7, 1), np.float32), 1.0).tolist() == list(range(7))
