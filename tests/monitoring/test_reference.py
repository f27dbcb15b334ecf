"""The coordinates of training prompts, against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from catimage.monitoring import reference as module
from catimage.monitoring.reference import Reference


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def prompts() -> np.ndarray:
    """Embeddings whose components differ in variance."""
    rng = np.random.default_rng(0)
    return unit(rng.standard_normal((300, 6)) * [3, 2, 1, 1, 0.5, 0.1] + [4, 0, 0, 0, 0, 0])


@pytest.fixture(scope="module")
def fitted(prompts: np.ndarray) -> Reference:
    return Reference.fit(prompts)


def mean_distance(prompt: np.ndarray, others: np.ndarray) -> float:
    return float(np.sort(1 - others @ prompt)[: module.NEIGHBORS].mean())


def test_without_shrinkage_the_covariance_is_the_identity(prompts, monkeypatch):
    monkeypatch.setattr(module, "SHRINKAGE", 0.0)
    points = Reference.fit(prompts).points
    np.testing.assert_allclose(np.cov(points[:, :-1].T, bias=True), np.eye(6), atol=1e-3)
    np.testing.assert_allclose(points.mean(0), 0, atol=1e-4)
    assert points[:, -1].std() == pytest.approx(1, abs=1e-5)


def test_the_last_coordinate_is_the_distance_to_the_nearest_other_prompts(prompts, fitted):
    expected = [mean_distance(p, np.delete(prompts, i, 0)) for i, p in enumerate(prompts)]
    scaled = (np.array(expected) - np.mean(expected)) / np.std(expected)
    np.testing.assert_allclose(fitted.points[:, -1], scaled, atol=1e-4)
    new = unit(np.random.default_rng(1).standard_normal((20, 6)))
    distances = np.array([mean_distance(p, prompts) for p in new])
    scaled = (distances - np.mean(expected)) / np.std(expected)
    points = fitted.coordinates(new)
    np.testing.assert_allclose(points[:, -1], scaled, rtol=1e-3, atol=1e-3)
    ranks = [np.mean(np.array(expected) <= d) for d in distances]
    np.testing.assert_allclose(fitted.distance_ranks(points), ranks, atol=0.005)


def test_ranks_are_shares_of_smaller_training_values(fitted):
    rng = np.random.default_rng(2)
    witness = rng.standard_normal((2, 7)).astype(np.float32)
    points = np.stack([fitted.points[:5], fitted.points[5:10]])
    ranks = fitted.ranks(witness, points)
    for stream in range(2):
        among = fitted.points.astype(float) @ witness[stream].astype(float)
        for i, point in enumerate(points[stream]):
            value = point.astype(float) @ witness[stream].astype(float)
            share = ((among < value - 1e-5).mean() + (among <= value + 1e-5).mean()) / 2
            assert ranks[stream, i] == pytest.approx(share, abs=0.005)


def test_the_mean_rank_is_the_area_under_the_curve(fitted):
    """Brute force over all pairs of a new and a training prompt."""
    new = fitted.coordinates(unit(np.random.default_rng(3).standard_normal((100, 6))))
    witness = new.mean(0, keepdims=True)
    pairs = (new @ witness[0])[:, None] > (fitted.points @ witness[0])[None]
    assert fitted.ranks(witness, new[None]).mean() == pytest.approx(pairs.mean(), abs=1e-3)


def test_without_a_witness_all_ranks_are_one_half(fitted):
    assert (fitted.ranks(np.zeros((1, 7), np.float32), fitted.points[None]) == 0.5).all()


def test_equal_prompts_have_finite_coordinates() -> None:
    equal = unit(np.ones((30, 4)))
    fitted = Reference.fit(equal)
    assert np.isfinite(fitted.coordinates(unit(np.eye(4)))).all()
    np.testing.assert_allclose(fitted.points, 0, atol=1e-2)


def test_many_prompts_are_sampled(monkeypatch, prompts):
    monkeypatch.setattr(module, "LARGEST", 50)
    assert len(Reference.fit(prompts).points) == 50
    np.testing.assert_array_equal(Reference.fit(prompts).points, Reference.fit(prompts).points)
