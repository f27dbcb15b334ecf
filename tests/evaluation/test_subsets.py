import numpy as np
import pytest

from catimage.data.dataset import Candidates
from catimage.evaluation.held_out import N_BUDGETS, mean_over_budgets
from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.policies import fixed_policies, randomized_policies, routed_policies
from catimage.evaluation.subsets import homogeneous_pools, subsets_document
from catimage.routing.curve import deferral_curve

COST = np.array([1.0, 2.0, 3.0, 4.0, 8.0])
CANDIDATES = Candidates(list("abcde"), COST, "s", ("sd", "other", "sd", "third", "sd"))


@pytest.fixture(scope="module")
def splits():
    """Predictions and labels of two splits."""
    rng = np.random.default_rng(0)
    labels = [rng.random((80, 5)) + np.array([0, 0.2, 0.1, 0.2, 0.3]) for _ in range(2)]
    return [(y + rng.normal(0, 0.2, y.shape), y) for y in labels]


def test_a_homogeneous_pool_needs_three_candidates():
    assert homogeneous_pools(CANDIDATES.generators) == {"sd": [0, 2, 4]}
    assert homogeneous_pools(("a", "b", "c")) == {}
    assert homogeneous_pools(()) == {}
    assert homogeneous_pools(("a",) * 4) == {}, "the whole pool has one generator"
    pools = homogeneous_pools(("a",) * 3 + ("b",) * 4)
    assert pools == {"a": [0, 1, 2], "b": [3, 4, 5, 6]}


def test_a_homogeneous_pool_is_evaluated_without_the_other_candidates(splits):
    bootstrap = PairedBootstrap(80, 200, 0)
    (row,) = subsets_document(*splits, CANDIDATES, bootstrap)
    predicted, labels = splits[1]
    sd = [0, 2, 4]
    alone = deferral_curve(predicted[:, sd], COST[sd], labels[:, sd])
    pool_curve = deferral_curve(predicted, COST, labels)
    assert row["generator"] == "sd"
    assert row["candidates"] == ["a", "c", "e"]
    assert row["costs"] == [1, 8]
    assert row["mean_curve_quality"] == pytest.approx(alone.mean_quality(1, 8))
    assert row["whole_mean_curve_quality"] == pytest.approx(pool_curve.mean_quality(1, 8))
    assert row["curve"] == np.stack([alone.cost, alone.quality, alone.lam], axis=1).tolist()
    restricted = [values[:, sd] for split in splits for values in split]
    own, every = (
        mean_over_budgets(policies, 1, 8)
        for policies in (
            routed_policies(*restricted, COST[sd]),
            routed_policies(*splits[0], *splits[1], COST),
        )
    )
    assert row["selected"]["gain"] == pytest.approx((every - own).mean())
    assert row["selected"]["interval"] == pytest.approx(bootstrap.interval(every - own))


def test_mean_over_budgets_is_the_mean_of_the_quality_within_each_budget(splits):
    policies = routed_policies(*splits[0], *splits[1], COST)
    curve = policies.curve
    total = np.zeros(80)
    for budget in 1 + 7 * (np.arange(N_BUDGETS) + 0.5) / N_BUDGETS:
        within = np.flatnonzero(curve.cost <= budget + 1e-9)
        best = within[curve.quality[within] >= curve.quality[within].max() - 1e-12]
        total += policies.outcome(float(best[-1])).quality  # the cheapest among ties
    assert mean_over_budgets(policies, 1, 8) == pytest.approx(total / N_BUDGETS)


def test_mean_over_budgets_is_close_to_mean_curve_quality_on_the_selection_split(splits):
    test = splits[1]
    for policies in (
        routed_policies(*test, *test, COST),
        randomized_policies(test[1], test[1], COST),
        fixed_policies(test[1], test[1], COST),
    ):
        expected = policies.curve.mean_quality(1, 8, policies.linear)
        assert mean_over_budgets(policies, 1, 8).mean() == pytest.approx(expected, abs=0.003)


def test_mean_over_budgets_of_candidates_of_equal_cost_is_the_best_quality():
    labels = np.array([[0.1, 0.7], [0.3, 0.2]])
    policies = routed_policies(labels, labels, labels, labels, np.ones(2))
    assert mean_over_budgets(policies, 1, 1).tolist() == [0.7, 0.3]


def test_a_budget_below_the_cost_of_every_policy_is_refused(splits):
    policies = routed_policies(*splits[0], *splits[1], COST)
    with pytest.raises(ValueError, match="low: 0 is below the lowest cost of the curve"):
        mean_over_budgets(policies, 0, 8)
