import numpy as np
import pytest

from catimage.evaluation.image_sets.jackknife import (
    SetFeatures,
    SetStatistic,
    jackknife_error,
    prompt_groups,
)
from catimage.metrics.sets.distances import ImageSet
from catimage.metrics.sets.registry import SET_METRICS, SetMetric

MEAN = SetMetric(
    "mean",
    "tiny",
    "features",
    lambda images, real: float(images.values.mean()),
    (-np.inf, np.inf),
    higher_is_better=True,
    needs_reference=False,
)


def features_of(generated, real=None):
    return SetFeatures(generated, real, None, prompt_groups(len(generated), 0))


def test_the_jackknife_error_of_a_mean_is_its_standard_error():
    generated = np.random.default_rng(0).normal(0, 1, (10, 1, 1, 1))
    replicates = SetStatistic(MEAN, features_of(generated)).replicates(np.zeros(10, int))
    assert replicates[0] == pytest.approx(generated.mean())
    assert len(replicates) == 11
    assert jackknife_error(replicates) == pytest.approx(generated.std(ddof=1) / 10**0.5)


def test_groups_have_equal_sizes_and_contain_every_prompt():
    groups = prompt_groups(23, 4)
    assert len(groups) == 10
    assert sorted(np.concatenate(groups).tolist()) == list(range(23))
    assert {len(g) for g in groups} == {2, 3}
    assert len(prompt_groups(5, 0)) == 5


def test_variation_that_two_sets_have_in_common_cancels():
    shared = np.random.default_rng(0).normal(0, 10, (40, 1, 2, 1))
    generated = np.concatenate([shared, shared + 0.5], axis=1)
    statistic = SetStatistic(MEAN, features_of(generated))
    first, second = np.zeros(40, int), np.ones(40, int)
    assert statistic.gain(second, first)["interval"] == pytest.approx([0.5, 0.5])
    assert statistic.gain(first, second)["gain"] == pytest.approx(-0.5)
    assert jackknife_error(statistic.replicates(first)) > 0.3


@pytest.mark.parametrize("name", ["kid_tiny", "fid_tiny"])
def test_intervals_of_equal_candidates_contain_0(name):
    """Two candidates have the same distribution; the real images are of the same prompts."""
    rng, contains_0 = np.random.default_rng(1), []
    for _ in range(60):
        prompts = rng.normal(0, 1, (40, 1, 1, 6))
        generated = prompts + rng.normal(0, 0.5, (40, 2, 1, 6))
        real = ImageSet((prompts + rng.normal(0, 0.5, (40, 1, 1, 6)))[:, 0, 0], np.arange(40))
        statistic = SetStatistic(SET_METRICS[name], features_of(generated, real))
        low, high = statistic.gain(np.zeros(40, int), np.ones(40, int))["interval"]
        contains_0.append(low <= 0 <= high)
    assert np.mean(contains_0) > 0.85


def test_each_set_is_computed_once():
    set_sizes = []

    def count(images, real):
        set_sizes.append(len(images.values))
        return 0.0

    metric = SetMetric("count", "tiny", "features", count, (0.0, 1.0), needs_reference=False)
    statistic = SetStatistic(metric, features_of(np.zeros((10, 2, 1, 1))))
    statistic.gain(np.zeros(10, int), np.ones(10, int))
    statistic.replicates(np.zeros(10, int))
    assert sorted(set_sizes) == [9] * 20 + [10] * 2
