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
from catimage.estimators.fitting import fit, out_of_fold_predictions, selected_parameters
from catimage.estimators.ivf import build_index, normalize_rows
from catimage.estimators.knn import CosineKNNRegressor


@parametrize_with_checks([CosineKNNRegressor(1), CosineKNNRegressor(1, algorithm="ivf")])
def test_scikit_learn_estimator_contract(estimator, check):
    check(estimator)


def random_vectors(n, seed, width=16):
    """Return random unit vectors."""
    return normalize_rows(np.random.default_rng(seed).normal(size=(n, width)))


def clustered_vectors(n, seed, n_clusters=400, width=64):
    """Return unit vectors in clusters of different directions, like embeddings of prompts."""
    centers = np.random.default_rng(99).normal(size=(n_clusters, width))
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n, width))
    return normalize_rows(centers[rng.integers(n_clusters, size=n)] + 0.6 * noise)


@pytest.mark.parametrize("k", [1, 7, 200])
def test_brute_force_equals_scikit_learn_with_cosine_distance(k):
    train, new, labels = (
        random_vectors(200, 0),
        3 * random_vectors(1500, 1),
        np.random.default_rng(2).normal(size=(200, 3)),
    )
    reference = KNeighborsRegressor(k, algorithm="brute", metric="cosine").fit(train, labels)
    expected = reference.predict(new)
    assert CosineKNNRegressor(k).fit(train, labels).predict(new) == pytest.approx(expected)
    scaled = CosineKNNRegressor(k).fit(5 * train, labels)
    assert scaled.predict(new) == pytest.approx(expected), "the length of a vector has no effect"


@given(
    st.integers(1, 12),
    st.floats(0.1, 0.9),
    st.sampled_from(["brute", "ivf"]),
    st.integers(0, 1000),
)
def test_the_neighbors_of_a_candidate_are_prompts_with_its_label(k, missing, algorithm, seed):
    rng = np.random.default_rng(seed)
    train, new = random_vectors(30, seed, 4), random_vectors(5, seed + 1, 4)
    labels = rng.normal(size=(30, 3))
    labels[rng.random(labels.shape) < missing] = np.nan
    labels[0] = 1.0
    model = CosineKNNRegressor(k, algorithm, min_compared=10**6).fit(train, labels)
    if algorithm == "ivf":
        train = normalize_rows(train).astype(np.float16).astype(np.float32)
    for j, column in enumerate(labels.T):
        labelled = np.flatnonzero(~np.isnan(column))
        nearest = np.argsort(-(new @ train[labelled].T), axis=1)[:, :k]
        assert model.predict(new)[:, j] == pytest.approx(
            column[labelled][nearest].mean(axis=1), abs=1e-6
        )


def test_every_vector_is_in_the_list_of_its_nearest_center():
    x = clustered_vectors(3000, 0)
    index = build_index(x, 0)
    assert sorted(index.order) == list(range(3000))
    owner = np.repeat(np.arange(len(index.centers)), np.diff(index.starts))
    assert (owner == (x[index.order] @ index.centers.T).argmax(axis=1)).all()
    assert (build_index(x, 0).order == index.order).all(), "deterministic"


def test_the_index_finds_most_of_the_true_neighbors_with_few_comparisons():
    train, new, labels = (
        clustered_vectors(20_000, 0),
        clustered_vectors(200, 1),
        np.random.default_rng(0).normal(size=(20_000, 2)),
    )
    exact, approximate = (
        CosineKNNRegressor(20, algorithm, min_compared=1000).fit(train, labels)
        for algorithm in ("brute", "ivf")
    )
    # The index changes the order of the prompts, so the prompts are identified by their labels.
    shared = [
        set(approximate.labels_[a, 0]) & set(exact.labels_[b, 0])
        for a, b in zip(approximate.neighbors(new), exact.neighbors(new), strict=True)
    ]
    assert np.mean([len(s) for s in shared]) / 20 > 0.9
    assert approximate.multiply_adds(new) < 0.12 * exact.multiply_adds(new)
    assert exact.multiply_adds(new) == 200 * 20_000 * 64


def test_predictions_with_random_missing_labels_are_close_to_those_with_all_labels():
    train, new = clustered_vectors(4000, 0), clustered_vectors(300, 1)
    labels = np.stack([train @ normalize_rows(np.ones((1, 64)))[0], train[:, 0]], axis=1)
    complete = CosineKNNRegressor(20).fit(train, labels).predict(new)
    incomplete = np.where(np.random.default_rng(1).random(labels.shape) < 0.3, np.nan, labels)
    for algorithm in ("brute", "ivf"):
        model = CosineKNNRegressor(20, algorithm, min_compared=1000).fit(train, incomplete)
        error = np.mean((model.predict(new) - complete) ** 2)
        assert error < 0.15 * complete.var(axis=0).mean()


def test_an_index_is_saved_in_half_precision_and_loaded_without_loss(tmp_path):
    train, new = clustered_vectors(2000, 0), clustered_vectors(50, 1)
    pipeline = Pipeline(
        [("features", FunctionTransformer()), ("regressor", CosineKNNRegressor(9, "ivf"))]
    ).fit(train, train[:, :3])
    store.save(pipeline, tmp_path / "knn", {})
    assert (store.load(tmp_path / "knn")[0].predict(new) == pipeline.predict(new)).all()
    assert (tmp_path / "knn" / "estimator.skops").stat().st_size < 0.8 * train.nbytes
    refitted = clone(pipeline).fit(train, train[:, :3])
    assert (refitted.predict(new) == pipeline.predict(new)).all(), "deterministic"


def test_more_neighbors_than_prompts_are_refused():
    with pytest.raises(InputError, match="n_neighbors is 9, but there are 8 training prompts"):
        CosineKNNRegressor(9).fit(random_vectors(8, 0), np.zeros((8, 2)))


def test_an_unknown_algorithm_is_refused():
    with pytest.raises(ValueError, match=r"algorithm: unknown value 'hnsw'\. Use 'auto', 'brute'"):
        CosineKNNRegressor(algorithm="hnsw").fit(random_vectors(8, 0), np.zeros((8, 2)))


@pytest.mark.parametrize(
    ("n", "width", "n_lists"), [(5461, 768, 1), (5462, 768, 147), (20_001, 4, 282)]
)
def test_auto_uses_the_index_for_many_prompts(n, width, n_lists):
    """The index has 2 sqrt(n) lists; brute force corresponds to one list."""
    x = random_vectors(n, 0, width)
    assert len(CosineKNNRegressor().fit(x, x[:, :1]).centers_) == n_lists


@pytest.mark.parametrize("n", [2, 7, 30])
def test_the_selected_number_of_neighbors_is_at_most_a_third_of_the_training_prompts(n):
    data = np.arange(n).astype(object), np.random.default_rng(0).normal(size=(n, 2))
    vectors = random_vectors(60, 0)
    pipeline = Pipeline(
        [
            ("features", FunctionTransformer(lambda i: vectors[i.astype(int)])),
            ("regressor", CosineKNNRegressor()),
        ]
    )
    grid = {"n_neighbors": [3, 5, 8, 12, 20, 32, 50, 80]}
    fitted = fit(pipeline, grid, data, data)
    assert selected_parameters(fitted, grid)["n_neighbors"] <= max(1, n // 3)
    assert np.isfinite(out_of_fold_predictions(fitted, data, folds=2, seed=0)).all()
