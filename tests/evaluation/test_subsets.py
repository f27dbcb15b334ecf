import numpy as np
import pytest

from catimage.evaluation.held_out import BUDGETS, mean_over_budgets
from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.methods import Pool
from catimage.evaluation.policies import fixed, mix, routed
from catimage.evaluation.subsets import homogeneous, subsets_document
from catimage.routing.curve import deferral_curve

COST = np.array([1.0, 2.0, 3.0, 4.0, 8.0])
GENERATORS = ("sd", "other", "sd", "third", "sd")


@pytest.fixture(scope="module")
def splits():
    rng = np.random.default_rng(0)
    labels = [rng.random((80, 5)) + np.array([0, 0.2, 0.1, 0.2, 0.3]) for _ in range(2)]
    return [(y + rng.normal(0, 0.2, y.shape), y) for y in labels]


def test_generators_of_three_candidates_make_a_pool():
    assert homogeneous(GENERATORS) == {"sd": [0, 2, 4]}
    assert homogeneous(("a", "b", "c")) == {} and homogeneous(()) == {}
    assert homogeneous(("a",) * 4) == {}  # the whole pool is one generator's: nothing to compare
    assert homogeneous(("a",) * 3 + ("b",) * 4) == {"a": [0, 1, 2], "b": [3, 4, 5, 6]}


def test_a_subset_is_the_router_without_the_other_candidates(splits):
    bootstrap = PairedBootstrap(80, 200, 0)
    pool = Pool(list("abcde"), COST, "s", GENERATORS)
    (row,) = subsets_document(*splits, pool, bootstrap)
    predicted, labels = splits[1]
    sd = [0, 2, 4]
    alone, whole = (
        deferral_curve(predicted[:, sd], COST[sd], labels[:, sd]),
        deferral_curve(predicted, COST, labels),
    )
    assert (
        row["generator"] == "sd" and row["candidates"] == ["a", "c", "e"] and row["costs"] == [1, 8]
    )
    assert row["mean_curve_quality"] == pytest.approx(alone.mean_quality(1, 8))
    assert row["whole_mean_curve_quality"] == pytest.approx(whole.mean_quality(1, 8))
    assert row["curve"] == np.stack([alone.cost, alone.quality, alone.lam], axis=1).tolist()
    own = [
        routed(*(values[:, sd] for split in splits for values in split), COST[sd]),
        routed(*splits[0], *splits[1], COST),
    ]
    one, every = (mean_over_budgets(family, 1, 8) for family in own)
    assert row["selected"]["gain"] == pytest.approx((every - one).mean())
    assert row["selected"]["interval"] == pytest.approx(bootstrap.interval(every - one))


def test_mean_over_budgets_is_the_mean_of_what_each_budget_gets(splits):
    honest = routed(*splits[0], *splits[1], COST)
    total = np.zeros(80)
    for budget in 1 + 7 * (np.arange(BUDGETS) + 0.5) / BUDGETS:
        within = np.flatnonzero(honest.curve.cost <= budget + 1e-9)
        best = within[honest.curve.quality[within] >= honest.curve.quality[within].max() - 1e-12]
        total += honest.outcome(float(best[-1])).quality  # the cheapest of several
    assert mean_over_budgets(honest, 1, 8) == pytest.approx(total / BUDGETS)


def test_on_its_own_split_it_is_nearly_mean_curve_quality(splits):
    test = splits[1]
    for family in (
        routed(*test, *test, COST),
        mix(test[1], test[1], COST),
        fixed(test[1], test[1], COST),
    ):
        expected = family.curve.mean_quality(1, 8, family.linear)
        assert mean_over_budgets(family, 1, 8).mean() == pytest.approx(expected, abs=0.003)


def test_equal_costs_have_one_budget():
    labels = np.array([[0.1, 0.7], [0.3, 0.2]])
    cost = np.ones(2)
    assert mean_over_budgets(routed(labels, labels, labels, labels, cost), 1, 1).tolist() == [
        0.7,
        0.3,
    ]


def test_a_curve_that_does_not_reach_the_cheapest_budget_is_refused(splits):
    with pytest.raises(ValueError, match="above the cost 0"):
        mean_over_budgets(routed(*splits[0], *splits[1], COST), 0, 8)
