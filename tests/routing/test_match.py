"""The certified match: coverage of its confidence, the fixed sequence of tests, and edge cases."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from catimage.routing.curve import deferral_curve, lambda_of_point
from catimage.routing.match import MIN_DIFFERENT, MatchSearch, certified_candidate
from catimage.routing.policy import choose

CONFIDENCE = 0.95
SIMULATIONS = 300


def crowded_and_plain(rng, n):
    """Draw prompts of which half gain much from the expensive candidate; the others lose a little.

    Returns:
        Predictions and labels, (n, 3) each, and the costs.
    """
    truth = np.where((np.arange(n) % 2)[:, None], [0.62, 0.60, 0.60], [0.30, 0.45, 0.70])
    predicted, labels = (truth + rng.normal(0, sd, truth.shape) for sd in (0.05, 0.02))
    return predicted, labels, np.array([1.0, 6.0, 10.0])


def without_gain(rng, n):
    """Draw prompts for which the best candidate is slightly better, and useless predictions."""
    labels = rng.normal(0, 0.3, (n, 3)) + np.array([0.0, 0.0, 0.01])
    return rng.normal(0, 0.1, (n, 3)), labels, np.array([1.0, 2.0, 4.0])


def skewed_losses(rng, n):
    """Draw prompts for which the cheap candidate is worse, by an exponential loss."""
    loss = 0.1 * rng.exponential(1, n)
    labels = np.stack([-loss, np.zeros(n)], axis=1) + rng.normal(0, 0.2, (n, 2))
    return np.stack([-loss, np.zeros(n)], axis=1), labels, np.array([1.0, 4.0])


def naive_match(curve, quality):
    """Return the cheapest point whose quality is at least ``quality``, or None."""
    reached = np.flatnonzero(curve.quality >= quality - 1e-12)
    return int(reached[-1]) if len(reached) else None


@pytest.mark.parametrize("draw", [crowded_and_plain, without_gain, skewed_losses])
@pytest.mark.parametrize("n", [100, 400])
def test_the_selected_lambda_is_as_good_as_the_candidate_with_the_confidence(draw, n):
    """The cheapest point that looks as good is worse on new prompts much more often."""
    rng = np.random.default_rng(n)
    predicted, labels, cost = draw(rng, 40_000)
    best = int(labels.mean(axis=0).argmax())
    truth, true_quality = deferral_curve(predicted, cost, labels), labels[:, best].mean()

    def is_worse(sample, position):
        lam = lambda_of_point(sample, position)
        i = int(np.searchsorted(truth.lam, lam, side="right")) - 1
        return truth.quality[i] < true_quality - 1e-12

    worse = naive_worse = 0
    for _ in range(SIMULATIONS):
        rows = rng.integers(0, len(labels), n)
        sample = deferral_curve(predicted[rows], cost, labels[rows])
        position = MatchSearch(predicted[rows], cost, labels[rows]).certified(best, CONFIDENCE)
        naive = naive_match(sample, labels[rows, best].mean())
        worse += position is not None and is_worse(sample, position)
        naive_worse += naive is not None and is_worse(sample, naive)
    # 5% of 300 is 15; a binomial count exceeds 26 with a probability of 0.3%.
    assert worse <= 26
    assert naive_worse > 60


def test_a_cheaper_lambda_is_found_where_routing_helps():
    """The true match costs 53% of the best candidate's cost."""
    rng = np.random.default_rng(0)
    predicted, labels, cost = crowded_and_plain(rng, 1000)
    curve = deferral_curve(predicted, cost, labels)
    position = MatchSearch(predicted, cost, labels).certified(2, CONFIDENCE)
    assert 0.52 < curve.cost[position] / cost[2] < 0.6


def test_the_sequence_agrees_with_paired_t_tests_at_every_point():
    rng = np.random.default_rng(1)
    predicted, labels, cost = crowded_and_plain(rng, 200)
    curve, last = deferral_curve(predicted, cost), None
    for i in range(len(curve)):
        picked = choose(predicted, cost, lambda_of_point(curve, i))
        gains = (labels[np.arange(200), picked] - labels[:, 2])[picked != 2]
        if len(gains) < MIN_DIFFERENT:
            continue
        if ttest_1samp(gains, 0, alternative="greater").pvalue > 1 - CONFIDENCE:
            break
        last = i
    assert last is not None
    assert MatchSearch(predicted, cost, labels).certified(2, CONFIDENCE) == last


def test_a_failed_test_ends_the_sequence_although_a_cheaper_lambda_would_pass():
    """At lambda 0, the predictions select a bad candidate; at larger lambdas, a better one."""
    n = 200
    predicted = np.tile([0.0, 1.0, 1.1], (n, 1)) + np.linspace(0, 1e-3, n)[:, None]
    labels = np.tile([0.0, 2.0, 0.5], (n, 1)) + np.random.default_rng(0).normal(0, 0.1, (n, 3))
    search = MatchSearch(predicted, np.array([2.0, 1.0, 3.0]), labels + np.eye(3)[0])
    assert search.certified(0, CONFIDENCE) is None
    assert search.certified(2, CONFIDENCE) == len(deferral_curve(predicted, search.cost)) - 1


def test_a_larger_confidence_never_selects_a_cheaper_lambda():
    predicted, labels, cost = crowded_and_plain(np.random.default_rng(2), 300)
    search = MatchSearch(predicted, cost, labels)
    positions = [search.certified(2, confidence) for confidence in (0.6, 0.9, 0.99)]
    assert positions == sorted(positions, reverse=True)
    assert positions[0] > positions[-1]


def test_candidates_with_equal_labels_match_each_other():
    labels = np.random.default_rng(0).random((50, 1)) + np.zeros((50, 3))
    predicted, cost = np.tile([0.0, 0.1, 0.2], (50, 1)), np.array([1.0, 2.0, 4.0])
    cheapest = len(deferral_curve(predicted, cost)) - 1
    assert MatchSearch(predicted, cost, labels).certified(1, CONFIDENCE) == cheapest
    assert certified_candidate(cost, labels, 2, CONFIDENCE) == 0


def test_a_policy_that_rarely_differs_from_the_candidate_is_not_certified():
    predicted, cost = np.tile([0.0, 1.0], (200, 1)), np.array([1.0, 4.0])
    predicted[: MIN_DIFFERENT - 1, 0] = 2.0
    labels = predicted + np.random.default_rng(0).normal(0, 0.01, predicted.shape)
    assert MatchSearch(predicted, cost, labels).certified(1, CONFIDENCE) is None
    predicted[MIN_DIFFERENT, 0] = 2.0
    labels[MIN_DIFFERENT, 0] = 2.0
    assert MatchSearch(predicted, cost, labels).certified(1, CONFIDENCE) == 0


def test_a_cheaper_candidate_is_certified_with_a_correction_for_the_number_of_candidates():
    rng, cost = np.random.default_rng(0), np.arange(1.0, 21.0)
    certified = 0
    for _ in range(SIMULATIONS):
        labels = rng.normal(0, 1, (60, 20))
        labels[:, -1] += 1e-9  # slightly better than all others
        certified += certified_candidate(cost, labels, 19, CONFIDENCE) != 19
    assert certified <= 26
    labels[:, 4] += 1.0
    assert certified_candidate(cost, labels, 19, CONFIDENCE) == 4
    assert certified_candidate(cost, labels[:10], 19, CONFIDENCE) == 19
    assert certified_candidate(np.ones(20), labels, 3, CONFIDENCE) == 3


def test_a_single_candidate_has_no_match_other_than_itself():
    labels, cost = np.random.default_rng(0).random((50, 1)), np.ones(1)
    assert MatchSearch(labels, cost, labels).certified(0, CONFIDENCE) is None
    assert certified_candidate(cost, labels, 0, CONFIDENCE) == 0
