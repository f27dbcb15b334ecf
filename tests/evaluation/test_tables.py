import numpy as np

from catimage.data.dataset import Candidates
from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.policies import Method, randomized_policies
from catimage.evaluation.tables import by_candidate, cost_ratio


def test_a_mix_that_consists_of_one_candidate_has_a_gain_of_exactly_0_over_that_candidate():
    rng = np.random.default_rng(0)
    for _ in range(30):
        labels, cost = rng.random((30, 4)), np.sort(rng.random(4) + 0.1)
        mixed = randomized_policies(labels, labels, cost)
        candidates = Candidates(list("abcd"), cost, "s")
        bootstrap = PairedBootstrap(30, 100, 0)
        for row in by_candidate(Method(mixed, mixed), candidates, labels, bootstrap, 0.95):
            assert row["gain"] == 0 or abs(row["gain"]) > 1e-12


def test_a_cost_ratio_to_a_free_or_almost_free_candidate_is_undefined():
    assert cost_ratio(1.0, 4.0) == 0.25
    assert cost_ratio(0.0, 4.0) == 0.0
    assert cost_ratio(1.0, 0.0) is None
    assert cost_ratio(1.0, 1e-310) is None
