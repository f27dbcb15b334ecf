"""Intervals of figures of sets; what evaluate makes of them is in
``tests/stages/evaluating/test_sets.py``.
"""

import numpy as np
import pytest

from catimage.evaluation.sets import Judge, Sets, grouped, standard_error
from catimage.metrics.sets.registry import SET_METRICS, SetMetric
from catimage.metrics.sets.distances import ImageSet


def mean_of(made, real):
    return float(made.values.mean())


MEAN = SetMetric("mean", "tiny", "features", mean_of, (-np.inf, np.inf), True, False)


def sets_of(made, seed=0, real=None, again=None):
    return Sets(made, real, again, grouped(len(made), seed))


def test_the_jackknife_of_a_mean_is_its_standard_error():
    made = np.random.default_rng(0).normal(0, 1, (10, 1, 1, 1))
    found = Judge(MEAN, sets_of(made)).replicates(np.zeros(10, int))
    assert found[0] == pytest.approx(made.mean()) and len(found) == 11
    assert standard_error(found) == pytest.approx(made.std(ddof=1) / 10**0.5)


def test_groups_are_even_and_hold_every_prompt():
    groups = grouped(23, 4)
    assert len(groups) == 10 and sorted(np.concatenate(groups).tolist()) == list(range(23))
    assert {len(g) for g in groups} == {2, 3} and len(grouped(5, 0)) == 5


def test_what_two_sets_share_cancels():
    hard = np.random.default_rng(0).normal(0, 10, (40, 1, 2, 1))
    made = np.concatenate([hard, hard + 0.5], axis=1)
    judge = Judge(MEAN, sets_of(made))
    none, all_ = np.zeros(40, int), np.ones(40, int)
    assert judge.against(all_, none)["interval"] == pytest.approx([0.5, 0.5])
    assert judge.against(none, all_)["gain"] == pytest.approx(-0.5)
    assert standard_error(judge.replicates(none)) > 0.3


@pytest.mark.parametrize("name", ["kid_tiny", "fid_tiny"])
def test_intervals_of_equal_candidates_hold_nothing_about_as_often_as_they_say(name):
    """Two candidates of one distribution, and real images of the same prompts."""
    rng, held = np.random.default_rng(1), []
    for _ in range(60):
        prompts = rng.normal(0, 1, (40, 1, 1, 6))
        made = prompts + rng.normal(0, 0.5, (40, 2, 1, 6))
        real = ImageSet((prompts + rng.normal(0, 0.5, (40, 1, 1, 6)))[:, 0, 0], np.arange(40))
        low, high = Judge(SET_METRICS[name], sets_of(made, real=real)).against(
            np.zeros(40, int), np.ones(40, int)
        )["interval"]
        held.append(low <= 0 <= high)
    assert np.mean(held) > 0.85


def test_a_set_is_judged_once():
    asked = []

    def counted(made, real):
        asked.append(len(made.values))
        return 0.0

    judge = Judge(
        SetMetric("counted", "tiny", "features", counted, (0.0, 1.0), False, False),
        sets_of(np.zeros((10, 2, 1, 1))),
    )
    judge.against(np.zeros(10, int), np.ones(10, int))
    judge.replicates(np.zeros(10, int))
    assert sorted(asked) == [9] * 20 + [10] * 2
