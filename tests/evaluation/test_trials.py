import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.base import clone
from sklearn.neighbors import KNeighborsRegressor

from catimage.estimators.knn import CosineKNNRegressor
from catimage.evaluation import trials
from catimage.evaluation.trials import (
    Lesson,
    drawn_labels,
    possible_sizes,
    trial_predictions,
    trials_document,
    whole_seeds,
)
from catimage.routing.curve import deferral_curve
from catimage.routing.policy import choose

COST = np.array([1.0, 2.0, 5.0])
NAMES = ["a", "b", "c"]


def unit(rng, n):
    x = rng.normal(size=(n, 4))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def lesson():
    """The dear candidate is good where the first feature is positive."""
    rng = np.random.default_rng(0)
    x = unit(rng, 200), unit(rng, 60), unit(rng, 60)
    truth = [
        np.stack(
            [np.full(len(f), 0.5), np.full(len(f), 0.45), np.where(f[:, 0] > 0, 0.9, 0.3)], axis=1
        )
        for f in x
    ]
    by_seed = truth[0][:, :, None] + rng.normal(0, 0.3, (200, 3, 4))
    return Lesson(CosineKNNRegressor(n_neighbors=9), x, by_seed, truth[1], truth[2], COST)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 10**6))
def test_drawn_labels_are_means_of_that_many_seeds_of_a_prompt(seeds, size, seed):
    rng = np.random.default_rng(seed)
    by_seed = 2.0 ** np.arange(seeds) * np.ones((20, 3, 1))  # a sum tells which seeds were drawn
    by_seed[rng.random(by_seed.shape) < 0.1] = np.nan
    rows, labels = drawn_labels(by_seed, size, rng)
    whole = ~np.isnan(by_seed).any(axis=1)
    assert rows.tolist() == np.flatnonzero(whole.sum(axis=1) >= size).tolist() and labels.shape == (
        len(rows),
        3,
    )
    for i, label in zip(rows, labels, strict=True):
        assert (label == label[0]).all()  # the same seeds for all candidates
        drawn = [s for s in range(seeds) if round(label[0] * size) >> s & 1]
        assert len(drawn) == size and whole[i, drawn].all()


def test_every_seed_is_drawn_as_often():
    by_seed = np.arange(4.0) * np.ones((4000, 2, 1))
    counts = np.bincount(
        drawn_labels(by_seed, 1, np.random.default_rng(0))[1][:, 0].astype(int), minlength=4
    )
    assert counts == pytest.approx(1000, abs=120)


@pytest.mark.parametrize("regressor", [CosineKNNRegressor(n_neighbors=9), KNeighborsRegressor(9)])
def test_trials_fitted_together_are_those_fitted_one_by_one(lesson, regressor):
    mine = Lesson(
        regressor,
        *(getattr(lesson, f) for f in ("features", "by_seed", "validation", "test", "cost")),
    )
    found = list(trial_predictions(mine, 2, 23, seed=5))
    assert len(found) == 23
    rng = np.random.default_rng([5, 2])
    for on_val, on_test in found:
        rows, labels = drawn_labels(lesson.by_seed, 2, rng)
        own = clone(regressor).fit(lesson.features[0][rows], labels)
        assert on_val == pytest.approx(
            own.predict(lesson.features[1])
        ) and on_test == pytest.approx(own.predict(lesson.features[2]))


def test_the_table_is_what_trial_by_trial_gives(lesson):
    document = trials_document(lesson, NAMES, [1, 3], 30, seed=0)
    assert (
        document["trials"] == 30
        and document["seeds"] == 4
        and [t["size"] for t in document["by_size"]] == [1, 3]
    )
    table = document["by_size"][0]
    assert table["n_train"] == 200
    best, honest = [], []
    for on_val, on_test in trial_predictions(lesson, 1, 30, seed=0):
        curve = deferral_curve(on_test, COST, lesson.test)
        best.append([curve.quality[curve.cost <= c + 1e-9].max() for c in COST])
        grid = np.append(np.unique(deferral_curve(on_val, COST).lam) * (1 + 1e-9), 1e9)
        outcomes = []
        for lam in grid:
            val, test = choose(on_val, COST, lam), choose(on_test, COST, lam)
            outcomes.append(
                (
                    COST[val].mean(),
                    lesson.validation[np.arange(60), val].mean(),
                    lesson.test[np.arange(60), test].mean(),
                )
            )
        outcomes = np.array(outcomes)
        honest.append([])
        for c in COST:
            within = outcomes[outcomes[:, 0] <= c + 1e-9]
            top = within[within[:, 1] >= within[:, 1].max() - 1e-12]
            honest[-1].append(top[np.argmin(top[:, 0]), 2])
    for m, row in enumerate(table["by_candidate"]):
        fixed = lesson.test[:, m].mean()
        assert row["fixed_quality"] == pytest.approx(fixed)
        for figures, all_of_them in (
            (row, np.array(best)[:, m]),
            (row["selected"], np.array(honest)[:, m]),
        ):
            assert figures["quality"] == pytest.approx(all_of_them.mean()) and figures[
                "sd"
            ] == pytest.approx(all_of_them.std(ddof=1))
            assert (
                figures["wins"] == (all_of_them > fixed + 1e-9).sum()
                and figures["losses"] == (all_of_them < fixed - 1e-9).sum()
            )
            assert figures["win_rate"] == figures["wins"] / 30


def test_more_seeds_learn_more(lesson):
    one, three = (
        table["by_candidate"][2]
        for table in trials_document(lesson, NAMES, [1, 3], 40, seed=1)["by_size"]
    )
    assert three["quality"] > one["quality"] and three["sd"] < one["sd"] and three["win_rate"] == 1


def test_the_sign_test_is_exact_two_sided_and_leaves_ties_out():
    assert trials._against(np.array([1.0] * 9 + [-1.0] + [0.0] * 5), 0.0)[
        "p_value"
    ] == pytest.approx(2 * binom.cdf(1, 10, 0.5))
    assert trials._against(np.array([1.0] * 100), 0.0)["p_value"] == pytest.approx(2 * 0.5**100)
    tied = trials._against(np.array([0.3, 0.3]), 0.1 + 0.2)
    assert tied["p_value"] is None and tied["wins"] == tied["losses"] == tied["win_rate"] == 0
    assert trials._against(np.array([1.0]), 0.0)["sd"] is None


def test_at_the_cheapest_cost_there_is_nothing_to_win(lesson):
    row = trials_document(lesson, NAMES, [1], 5, seed=0)["by_size"][0]["by_candidate"][0]
    assert (
        row["wins"] == row["losses"] == 0
        and row["p_value"] is None
        and row["quality"] == pytest.approx(row["fixed_quality"])
    )


def test_only_fewer_seeds_than_there_are_can_be_drawn():
    assert (
        possible_sizes([1, 3], 4) == [1, 3]
        and possible_sizes([1, 3], 3) == [1]
        and possible_sizes([3, 0, 3], 4) == [3]
    )
    assert possible_sizes([1, 3], 1) == []
    by_seed = np.where(np.eye(4)[:, None, :] > 0, 0.5, np.nan) * np.ones(
        (4, 2, 1)
    )  # each prompt has a seed of its own
    by_seed[0, 0, 1] = 0.5
    assert whole_seeds(by_seed).sum(axis=1).tolist() == [1, 1, 1, 1]


def test_a_seed_gives_the_same_trials(lesson):
    assert trials_document(lesson, NAMES, [1], 6, seed=2) == trials_document(
        lesson, NAMES, [1], 6, seed=2
    )
    assert trials_document(lesson, NAMES, [1], 6, seed=2) != trials_document(
        lesson, NAMES, [1], 6, seed=3
    )
