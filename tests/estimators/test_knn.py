import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from catimage.errors import InputError
from catimage.estimators import store
from catimage.estimators.fitting import fit, out_of_fold, selected_parameters
from catimage.estimators.ivf import lists_of, unit
from catimage.estimators.knn import CosineKNNRegressor


@parametrize_with_checks([CosineKNNRegressor(1), CosineKNNRegressor(1, exact=False)])
def test_scikit_learns_contract(estimator, check):
    check(estimator)


def vectors(n, seed, width=16):
    return unit(np.random.default_rng(seed).normal(size=(n, width)))


def prompts_of_kinds(n, seed, kinds=400, width=64):
    """Embeddings that lie in clumps of different directions, as those of prompts do."""
    centers = np.random.default_rng(99).normal(size=(kinds, width))
    rng = np.random.default_rng(seed)
    return unit(centers[rng.integers(kinds, size=n)] + 0.6 * rng.normal(size=(n, width)))


@pytest.mark.parametrize("k", [1, 7, 200])
def test_equals_scikit_learns_by_cosine(k):
    known, new, labels = (
        vectors(200, 0),
        3 * vectors(1500, 1),
        np.random.default_rng(2).normal(size=(200, 3)),
    )
    theirs = (
        KNeighborsRegressor(k, algorithm="brute", metric="cosine").fit(known, labels).predict(new)
    )
    assert CosineKNNRegressor(k).fit(known, labels).predict(new) == pytest.approx(theirs)
    assert CosineKNNRegressor(k).fit(5 * known, labels).predict(new) == pytest.approx(theirs), (
        "lengths do not count"
    )


@given(st.integers(1, 12), st.floats(0.1, 0.9), st.booleans(), st.integers(0, 1000))
def test_a_candidates_neighbours_are_those_that_have_its_label(k, share, exact, seed):
    rng = np.random.default_rng(seed)
    known, new, labels = vectors(30, seed, 4), vectors(5, seed + 1, 4), rng.normal(size=(30, 3))
    labels[rng.random(labels.shape) < share] = np.nan
    labels[0] = 1.0
    model = CosineKNNRegressor(k, scanned=10**6, exact=exact).fit(known, labels)
    if not exact:
        known = unit(known).astype(np.float16).astype(np.float32)
    for j, column in enumerate(labels.T):
        there = np.flatnonzero(~np.isnan(column))
        nearest = np.argsort(-(new @ known[there].T), axis=1)[:, :k]
        assert model.predict(new)[:, j] == pytest.approx(
            column[there][nearest].mean(axis=1), abs=1e-6
        )


def test_lists_hold_every_prompt_once_in_the_list_of_its_nearest_centre():
    x = prompts_of_kinds(3000, 0)
    lists = lists_of(x, 0)
    assert sorted(lists.order) == list(range(3000))
    owner = np.repeat(np.arange(len(lists.centers)), np.diff(lists.starts))
    assert (owner == (x[lists.order] @ lists.centers.T).argmax(axis=1)).all()
    assert (lists_of(x, 0).order == lists.order).all(), "deterministic"


def test_lists_find_most_of_the_true_neighbours_and_compare_with_few():
    known, new, labels = (
        prompts_of_kinds(20_000, 0),
        prompts_of_kinds(200, 1),
        np.random.default_rng(0).normal(size=(20_000, 2)),
    )
    exact, lists = (
        CosineKNNRegressor(20, scanned=1000, exact=e).fit(known, labels) for e in (True, False)
    )
    # rows of known_ are in the order of the lists: compare vectors by their labels, which are all
    # different
    found = [
        set(lists.labels_[a, 0]) & set(exact.labels_[b, 0])
        for a, b in zip(lists.neighbours(new), exact.neighbours(new), strict=True)
    ]
    assert np.mean([len(f) for f in found]) / 20 > 0.9
    assert lists.multiply_adds(new) < 0.12 * exact.multiply_adds(new)
    assert exact.multiply_adds(new) == 200 * 20_000 * 64


def test_holes_at_random_and_lists_come_near_to_whole_labels():
    known, new = prompts_of_kinds(4000, 0), prompts_of_kinds(300, 1)
    labels = np.stack([known @ unit(np.ones((1, 64)))[0], known[:, 0]], axis=1)
    whole = CosineKNNRegressor(20).fit(known, labels).predict(new)
    holed = np.where(np.random.default_rng(1).random(labels.shape) < 0.3, np.nan, labels)
    for exact in (True, False):
        predicted = CosineKNNRegressor(20, exact=exact, scanned=1000).fit(known, holed).predict(new)
        assert np.mean((predicted - whole) ** 2) < 0.15 * whole.var(axis=0).mean()


def test_lists_survive_the_disk_in_half_precision(tmp_path):
    known, new = prompts_of_kinds(2000, 0), prompts_of_kinds(50, 1)
    pipeline = Pipeline(
        [("features", FunctionTransformer()), ("regressor", CosineKNNRegressor(9, exact=False))]
    ).fit(known, known[:, :3])
    store.save(pipeline, tmp_path / "knn", {})
    assert (store.load(tmp_path / "knn")[0].predict(new) == pipeline.predict(new)).all()
    assert (tmp_path / "knn" / "estimator.skops").stat().st_size < 0.8 * known.nbytes
    assert (clone(pipeline).fit(known, known[:, :3]).predict(new) == pipeline.predict(new)).all(), (
        "deterministic"
    )


def test_more_neighbours_than_prompts_are_refused_in_one_sentence():
    with pytest.raises(InputError, match="n_neighbors is 9, but there are 8 training prompts"):
        CosineKNNRegressor(9).fit(vectors(8, 0), np.zeros((8, 2)))


@pytest.mark.parametrize("n", [2, 7, 30])
def test_the_grid_leaves_out_what_a_fold_has_not(n):
    data = np.arange(n).astype(object), np.random.default_rng(0).normal(size=(n, 2))
    pipeline = Pipeline(
        [
            ("features", FunctionTransformer(lambda i: vectors(60, 0)[i.astype(int)])),
            ("regressor", CosineKNNRegressor()),
        ]
    )
    grid = {"n_neighbors": [3, 5, 8, 12, 20, 32, 50, 80]}
    fitted = fit(pipeline, grid, data, data)
    assert selected_parameters(fitted, grid)["n_neighbors"] <= max(1, n // 3)
    assert np.isfinite(out_of_fold(fitted, data, folds=2, seed=0)).all()
