import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from catimage.estimators import extended as module
from catimage.estimators import store
from catimage.estimators.build import build_estimator
from catimage.estimators.context import EstimatorContext
from catimage.estimators.extended import ExtendedRegressor, extend_estimator
from catimage.params import EstimatorParams

SHAPES = ("ring", "square", "star", "disc", "cross")


def simulated_data(n=300, width=6, noise=0.05, seed=0):
    """Return features, true qualities (n, 3), and noisy labels (n, 3). The quality of the third
    candidate is linear in the qualities of the first two candidates and in the features.
    """
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, width))
    old = X @ rng.normal(size=(width, 2))
    new = 0.8 * old[:, 0] + 0.2 * old[:, 1] + 0.5 * X[:, 0] + 1.5
    true = np.column_stack([old, new])
    return X, true, true + rng.normal(0, noise, true.shape)


def extended_ridge(X, labels, rows, column=2, base=None):
    """Return a ridge regression extended by the candidate in ``column``, given the labels of
    ``rows``.
    """
    others = np.delete(labels, column, axis=1)
    base = base or Ridge(1e-3).fit(X, others)
    return ExtendedRegressor(base, column).extend(
        X[rows], base.predict(X[rows]), others[rows], labels[rows, column]
    )


def test_predictions_of_the_other_candidates_do_not_change():
    X, _, labels = simulated_data()
    for column in (0, 1, 2):
        extended = extended_ridge(X, labels, np.arange(60), column)
        assert np.array_equal(
            np.delete(extended.predict(X), column, axis=1), extended.base.predict(X)
        )


def test_a_quality_that_is_linear_in_the_features_is_learned_from_few_labels():
    X, true, labels = simulated_data()
    error = extended_ridge(X, labels, np.arange(60)).predict(X[60:])[:, 2] - true[60:, 2]
    assert np.sqrt((error**2).mean()) < 0.1 < true[:, 2].std()


def test_a_constant_difference_between_candidates_is_predicted_exactly():
    rng = np.random.default_rng(0)
    X, old = rng.normal(size=(200, 4)), rng.normal(size=(200, 2))
    base = Ridge(1e-3).fit(X, old)
    labels = np.column_stack([old, old.mean(axis=1) + 3])
    extended = extended_ridge(X, labels, np.arange(50), base=base)
    assert extended.predict(X)[:, 2] == pytest.approx(base.predict(X).mean(axis=1) + 3)


def test_leave_one_out_predictions_equal_predictions_after_refitting_without_the_prompt(
    monkeypatch,
):
    """The penalty and the weight of the kernels are fixed."""
    X, _, labels = simulated_data(n=30)
    monkeypatch.setattr(module, "ALPHAS", np.array([0.3]))
    monkeypatch.setattr(module, "SHARES", (0.5,))
    blocks, y = [labels[:, :2] - labels[:, :2].mean(axis=0), X - X.mean(axis=0)], labels[:, 2]
    scales = [module._centred_kernel(b)[1] for b in blocks]
    kernel = sum(0.5 * b @ b.T / s for b, s in zip(blocks, scales, strict=True))
    leave_one_out = module._select_kernel_ridge(blocks, y).leave_one_out
    for i in (0, 7, 29):
        others = np.delete(np.arange(30), i)
        system = np.block(
            [
                [kernel[np.ix_(others, others)] + 0.3 * np.eye(29), np.ones((29, 1))],
                [np.ones((1, 29)), np.zeros((1, 1))],
            ]
        )
        solved = np.linalg.solve(system, np.append(y[others], 0))
        assert leave_one_out[i] == pytest.approx(kernel[i, others] @ solved[:-1] + solved[-1])


def test_missing_labels_of_the_other_candidates_are_replaced_by_predictions():
    X, true, labels = simulated_data()
    labels[:60:3, 0] = np.nan
    base = Ridge(1e-3).fit(X, true[:, :2])
    error = extended_ridge(X, labels, np.arange(60), base=base).predict(X[60:])[:, 2] - true[60:, 2]
    assert np.sqrt((error**2).mean()) < 0.1


def test_predicted_differences_are_clipped_to_the_range_of_the_training_differences():
    X, _, labels = simulated_data()
    extended = extended_ridge(X, labels, np.arange(60))
    difference = labels[:60, 2] - labels[:60, :2].mean(axis=1)
    predicted = extended.predict(100 * X)
    assert np.ptp(predicted[:, 2] - predicted[:, :2].mean(axis=1)) <= np.ptp(difference) + 1e-9


def test_predictions_of_sparse_and_dense_features_are_equal():
    X, _, labels = simulated_data()
    base = Ridge(1e-3).fit(X, labels[:, :2])
    dense = extended_ridge(X, labels, np.arange(60), base=base).predict(X)
    sparse = extended_ridge(csr_matrix(X), labels, np.arange(60), base=base).predict(csr_matrix(X))
    assert sparse == pytest.approx(dense)


def test_a_clone_can_be_fitted_to_all_candidates():
    X, true, labels = simulated_data()
    extended = extended_ridge(X, labels, np.arange(60))
    incomplete = labels.copy()
    incomplete[80:, 2] = np.nan
    refitted = clone(extended).fit(X[:200], incomplete[:200])
    assert np.sqrt(((refitted.predict(X[200:]) - true[200:]) ** 2).mean()) < 0.1


def test_an_extended_estimator_can_be_extended_saved_and_loaded(tmp_path):
    X, _, labels = simulated_data()
    base = Ridge(1e-3).fit(X, labels[:, :2])
    pipeline = Pipeline([("features", FunctionTransformer()), ("regressor", base)])
    first = extend_estimator(
        pipeline, 2, X[:60], base.predict(X[:60]), labels[:60, :2], labels[:60, 2]
    )
    second = extend_estimator(
        first, 0, X[:60], first.predict(X[:60]), labels[:60], labels[:60, 2] - 1
    )
    store.save(second, tmp_path / "e", {"candidates": ["d", "a", "b", "c"]})
    loaded, _ = store.load(tmp_path / "e")
    assert np.array_equal(loaded.predict(X), second.predict(X))
    assert np.array_equal(loaded.predict(X)[:, 1:], first.predict(X))


def test_a_single_label_is_refused():
    X, _, labels = simulated_data()
    with pytest.raises(
        ValueError, match=r"new_labels: .* at least two labelled prompts, not 1\. Add"
    ):
        extended_ridge(X, labels, np.array([0]))


SPECS = [
    {"name": "knn"},
    {"name": "kernel_ridge"},
    {"name": "transformer", "settings": {"max_iter": 1}},
    {"name": "mlp", "settings": {"max_iter": 1, "n_estimators": 1}},
    {"name": "clusters"},
    {"name": "lstm", "settings": {"max_iter": 1, "hidden_size": 8}},
    {"name": "both", "kind": "stack", "members": ["knn", "ridge"]},
    {"name": "ridge_with_kernel", "kind": "ridge", "features": ["tfidf", "kernel"]},
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec["name"])
def test_every_kind_of_estimator_can_be_extended_saved_and_loaded(spec, tmp_path):
    prompts = np.array(
        [
            f"{n} {c} {s}"
            for n in ("one", "two")
            for c in ("red", "blue", "green", "grey")
            for s in SHAPES
        ],
        object,
    )
    labels = np.array([[0.2 + 0.1 * ("red" in p), 0.5, 0.9 - 0.3 * ("two" in p)] for p in prompts])
    members = {
        name: build_estimator(EstimatorParams(name=name), EstimatorContext())[0]
        for name in spec.get("members", ())
    }
    context = EstimatorContext(steps=(1, 4), step_groups=("sd", "sd"), members=members)
    base = build_estimator(EstimatorParams(**spec), context)[0].fit(prompts, labels[:, [0, 2]])
    extended = extend_estimator(
        base, 1, prompts[:20], base.predict(prompts[:20]), labels[:20, [0, 2]], labels[:20, 1]
    )
    predicted = extended.predict(prompts)
    assert np.array_equal(predicted[:, [0, 2]], base.predict(prompts))
    assert predicted[:, 1] == pytest.approx(0.5, abs=0.25)
    store.save(extended, tmp_path / "extended", {})
    assert store.load(tmp_path / "extended")[0].predict(prompts) == pytest.approx(predicted)
    assert clone(extended).fit(prompts, labels).predict(prompts[:2]).shape == (2, 3)
