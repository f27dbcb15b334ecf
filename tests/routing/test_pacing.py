"""Pacing: the running mean cost under traffic that changes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catimage.routing.curve import deferral_curve
from catimage.routing.pacing import HORIZON, PaceState, Pacing
from catimage.routing.policy import choose
from catimage.routing.randomized import RoutingRule, rule_within

COSTS = np.array([1.0, 2.0, 4.0, 8.0, 16.0])


def qualities(n, kind, rng):
    """Qualities that rise with the cost: little for simple prompts, and much for crowded ones."""
    gain = rng.gamma(2, 0.05, size=(n, 1)) * {"simple": 0.25, "mixed": 1.0, "crowded": 1.6}[kind]
    return 0.6 + gain * (np.log2(COSTS) / 4) ** rng.uniform(0.4, 1.2, size=(n, 1))


def calibrated(budget, seed=0):
    """A controller that was calibrated on simple and crowded prompts, and its start rule."""
    rng = np.random.default_rng(seed)
    quality = np.concatenate([qualities(200, kind, rng) for kind in ("simple", "crowded")])
    curve = deferral_curve(quality, COSTS)
    rule, _ = rule_within(curve, budget, COSTS)
    start = float(rule.share @ rule.lam)
    return Pacing.calibrated(curve, budget, start, (COSTS[0], COSTS[-1])), rule


def run(pacing, traffic, state=None):
    """Route traffic one image at a time; return the costs, the qualities and the last state."""
    state, costs, quality = state or pacing.initial(), [], []
    for row in traffic:
        m = int(np.argmax(row - state.lam * COSTS))
        costs.append(COSTS[m])
        quality.append(row[m])
        state = pacing.update(state, float(COSTS[m]))
    return np.array(costs), np.array(quality), state


def turning_traffic(rng, n=1000):
    """``n`` simple and then ``n`` crowded prompts; half of all requests are repeats."""
    halves = [qualities(n // 2, kind, rng) for kind in ("simple", "crowded")]
    repeated = [np.concatenate([h, h[rng.integers(0, len(h), n // 2)]]) for h in halves]
    return np.concatenate([rng.permutation(h) for h in repeated])


@pytest.mark.parametrize("budget", [1.5, 3.0, 6.4, 10.0])
def test_the_mean_cost_is_within_2_percent_when_prompts_turn_from_simple_to_crowded(budget):
    pacing, rule = calibrated(budget)
    for seed in range(2):
        traffic = turning_traffic(np.random.default_rng(seed))
        costs, _, _ = run(pacing, traffic)
        assert costs.mean() == pytest.approx(budget, rel=0.02)
    static = rule.expected(rule.choose_by_part(traffic[1000:], COSTS), COSTS)
    assert static.mean() > 1.05 * budget  # the calibrated rule overspends on the crowded half


@pytest.mark.parametrize("budget", [2.0, 6.4])
def test_it_is_nearly_as_good_as_the_best_fixed_rule_in_hindsight_on_steady_traffic(budget):
    pacing, _ = calibrated(budget)
    traffic = qualities(3000, "mixed", np.random.default_rng(7))
    costs, quality, _ = run(pacing, traffic)
    best = best_in_hindsight(traffic, costs.mean())
    cheapest = traffic[:, 0].mean()
    assert quality.mean() - cheapest > 0.95 * (best - cheapest)


def best_in_hindsight(traffic, budget):
    """The best mean quality of a fixed rule within a budget, by trying 500 lambdas."""
    lambdas = np.concatenate([[0], np.geomspace(1e-5, 1, 500)])
    cost, quality = np.array(
        [
            (COSTS[chosen].mean(), traffic[np.arange(len(traffic)), chosen].mean())
            for chosen in (choose(traffic, COSTS, lam) for lam in lambdas)
        ]
    ).T
    rule = RoutingRule.from_parts(*_mixture(cost, lambdas, budget))
    expected = rule.expected(rule.choose_by_part(traffic, COSTS), traffic).mean()
    return max(float(expected), float(quality[cost <= budget].max()))


def _mixture(cost, lambdas, budget):
    """Shares of the two lambdas whose costs enclose the budget."""
    i = int(np.flatnonzero(cost <= budget)[0])
    if i == 0:
        return [(1.0, lambdas[0])]
    share = (budget - cost[i]) / (cost[i - 1] - cost[i])
    return [(share, lambdas[i - 1]), (1 - share, lambdas[i])]


def test_a_service_that_ran_for_long_reacts_as_fast_as_a_new_one():
    pacing, _ = calibrated(6.4)
    rng = np.random.default_rng(3)
    _, _, old = run(pacing, qualities(9000, "simple", rng))
    assert old.images == pytest.approx(HORIZON, rel=0.02)
    costs, _, _ = run(pacing, qualities(3000, "crowded", rng), old)
    assert costs[1000:].mean() == pytest.approx(6.4, rel=0.05)


def test_money_that_simple_prompts_cannot_spend_is_spent_later_and_forgotten_after_the_horizon():
    pacing, _ = calibrated(10.0)
    flat = np.full((250, 5), 0.5)  # every candidate is equally good: the cheapest one is selected
    costs, _, state = run(pacing, flat)
    assert costs.mean() == 1 and state.lam == 0
    crowded = qualities(1250, "crowded", np.random.default_rng(0))
    later, _, _ = run(pacing, crowded, state)
    assert np.concatenate([costs, later]).mean() == pytest.approx(10, rel=0.03)
    old = PaceState(0.0, 2000, 2000 * 1.0)
    for _ in range(200):
        old = old.added(0.0, 100, 100 * 10.0)
    assert pacing.target(old) == pytest.approx(10.0, rel=1e-2)


@settings(max_examples=50, deadline=None)
@given(
    budget=st.floats(1.0, 20.0),
    images=st.lists(st.tuples(st.integers(0, 10), st.floats(-20, 200)), max_size=50),
    lam=st.floats(0, 10),
)
def test_lambda_and_target_stay_within_their_bounds(budget, images, lam):
    pacing, _ = calibrated(budget)
    state = PaceState(lam)
    for n, cost in images:
        state = pacing.update(state, cost, n)
        assert 0 <= state.lam <= pacing.highest
        assert COSTS[0] <= pacing.target(state) <= COSTS[-1]
        assert np.isfinite([state.images, state.cost]).all()


@settings(max_examples=30, deadline=None)
@given(lam=st.floats(0, 1), change=st.floats(-20, 20))
def test_the_scale_is_monotone_and_moves_can_be_undone_within_the_bounds(lam, change):
    pacing, _ = calibrated(6.4)
    lam = min(lam, pacing.highest)
    moved = pacing.moved(lam, change)
    assert (moved >= lam) == (change <= 0) or moved == pytest.approx(lam)
    if 0 < moved < pacing.highest:
        assert pacing.moved(moved, -change) == pytest.approx(lam, rel=1e-6, abs=1e-9)


def test_with_one_price_lambda_does_not_move():
    quality = np.random.default_rng(0).random((20, 3))
    curve = deferral_curve(quality, np.array([2.0, 2.0, 2.0]))
    pacing = Pacing.calibrated(curve, 2.0, 0.0, (2.0, 2.0))
    state = pacing.update(pacing.initial(), 2.0)
    assert state.lam == 0 and pacing.target(state) == 2.0


def test_lambda_keeps_a_budget_of_the_cheapest_candidate():
    pacing, rule = calibrated(1.0)
    assert pacing.start == pacing.highest == float(rule.lam[0])
    costs, _, state = run(pacing, qualities(500, "crowded", np.random.default_rng(1)))
    assert (costs == 1).all() and state.lam == pacing.highest
