import numpy as np

from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.policies import mix
from catimage.evaluation.tables import by_candidate


def test_a_mix_that_is_a_candidate_alone_gains_exactly_nothing_over_it():
    rng = np.random.default_rng(0)
    for _ in range(30):
        labels, cost = rng.random((30, 4)), np.sort(rng.random(4) + 0.1)
        family = mix(labels, labels, cost)
        for row in by_candidate(
            family, family, list("abcd"), cost, labels, labels, PairedBootstrap(30, 100, 0)
        ):
            assert row["gain"] == 0 or abs(row["gain"]) > 1e-12
