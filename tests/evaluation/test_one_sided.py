"""Coverage of the one-sided lower bound, for differences of which many are 0."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from catimage.evaluation.one_sided import lower_bound

SAMPLES = 3000


def test_the_bound_is_that_of_students_t() -> None:
    values = np.random.default_rng(0).standard_normal(40)
    interval = stats.ttest_1samp(values, 0, alternative="greater").confidence_interval(0.95)
    assert lower_bound(values, 0.95) == pytest.approx(interval.low)


@pytest.mark.parametrize("n", [50, 100])
@pytest.mark.parametrize("share", [0.05, 0.1, 0.4, 1.0])
def test_the_bound_of_symmetric_differences_rarely_exceeds_their_expectation(
    n: int, share: float
) -> None:
    """5% is expected; three standard errors of 3000 samples are 1.2%."""
    rng = np.random.default_rng(0)
    differ = rng.random((SAMPLES, n)) < share
    values = differ * rng.standard_normal((SAMPLES, n))
    assert np.mean([lower_bound(row, 0.95) > 0 for row in values]) < 0.062


def test_the_bound_of_rare_large_losses_exceeds_their_expectation_more_often() -> None:
    """The docstring states this limit: of five differences, one is -4 and the others are 1."""
    rng = np.random.default_rng(0)
    differ = rng.random((SAMPLES, 70)) < 0.3
    values = differ * np.where(rng.random((SAMPLES, 70)) < 0.2, -4.0, 1.0)
    assert 0.062 < np.mean([lower_bound(row, 0.95) > 0 for row in values]) < 0.13
