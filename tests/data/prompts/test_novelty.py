"""Selection of novel prompts, compared with a brute-force implementation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catimage.data.prompts.diversity import nearest_earlier, select_diverse
from catimage.data.prompts.novelty import highest_similarity, select_novel


def unit_vectors(n: int, width: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)
    lengths: np.ndarray = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / lengths)


def brute_force(
    new: np.ndarray, existing: np.ndarray, limit: int, bound: float
) -> tuple[list[int], list[float]]:
    """Select rows with plain loops over pairs, in double precision."""
    chosen: list[int] = []
    similarities: list[float] = []
    while len(chosen) < limit:
        best, lowest = -1, np.inf
        for i in range(len(new)):
            near = [float(new[i] @ v) for v in [*existing, *new[chosen]]]
            if i not in chosen and (value := max(near, default=-2.0)) < lowest - 1e-6:
                best, lowest = i, value
        if best < 0 or (lowest >= bound and bound < 1):
            break
        chosen.append(best)
        similarities.append(np.nan if lowest == -2 else lowest)
    return chosen, similarities


@given(
    st.integers(0, 12),
    st.integers(0, 6),
    st.integers(0, 14),
    st.sampled_from([0.2, 0.6, 0.9, 1.0]),
    st.integers(0, 1000),
)
def test_the_selection_agrees_with_brute_force(
    n: int, n_existing: int, limit: int, bound: float, seed: int
) -> None:
    new, existing = unit_vectors(n, 3, seed), unit_vectors(n_existing, 3, seed + 1)
    rows, similarity = select_novel(new, existing, limit, bound)
    expected = brute_force(new.astype(float), existing.astype(float), limit, bound)
    assert rows.tolist() == expected[0]
    np.testing.assert_allclose(similarity, expected[1], atol=1e-5)


@given(st.integers(1, 40), st.integers(1, 20), st.integers(0, 1000))
def test_every_selected_row_is_kept_by_the_stage_sample(n: int, old: int, seed: int) -> None:
    existing = unit_vectors(old, 4, seed)
    existing = existing[select_diverse(existing, 0.8)]
    new = unit_vectors(n, 4, seed + 1)
    rows, _ = select_novel(new, existing, n, 0.8)
    together = np.concatenate([existing, new[rows]])
    assert len(select_diverse(together, 0.8)) == len(together)
    remaining = np.delete(new, rows, axis=0)
    assert (highest_similarity(remaining, together) >= 0.8).all(), "no novel row is left out"


def test_the_farthest_row_is_first_and_the_first_of_equal_rows_is_preferred() -> None:
    existing = np.array([[1.0, 0.0]], np.float32)
    new = np.array([[0.8, 0.6], [0.0, 1.0], [0.0, 1.0], [-1.0, 0.0]], np.float32)
    rows, similarity = select_novel(new, existing, 2, 0.9)
    assert rows.tolist() == [3, 1]
    assert similarity.tolist() == [-1.0, 0.0]
    rows, _ = select_novel(new, np.empty((0, 0), np.float32), 1, 0.9)
    assert rows.tolist() == [0], "without prompts, the newest is first"


def test_similarities_of_many_rows_agree_with_another_implementation() -> None:
    vectors = unit_vectors(2100, 5, 0)
    values = highest_similarity(vectors[-1:], vectors[:-1])
    assert values[0] == pytest.approx(nearest_earlier(vectors)[0][-1], abs=1e-6)
    assert highest_similarity(vectors[:3], vectors[:0]).tolist() == [-2, -2, -2]
