import numpy as np
import pytest

from catimage.evaluation.intervals import (
    PairedBootstrap,
    gains_over,
    percentile_interval,
    standard_error,
    verdict,
)


def test_the_interval_is_close_to_that_of_a_normal_distribution():
    values = np.random.default_rng(0).normal(3, 2, 4000)
    low, high = PairedBootstrap(4000, 2000, 0).interval(values)
    half = 1.96 * standard_error(values)
    assert low == pytest.approx(values.mean() - half, abs=0.08 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.08 * half)


def test_the_coverage_of_the_intervals_is_close_to_95_percent():
    rng, bootstrap = np.random.default_rng(1), PairedBootstrap(80, 500, 1)
    bounds = bootstrap.intervals(rng.exponential(1.0, (80, 600)))
    covered = np.mean((bounds[:, 0] <= 1) & (bounds[:, 1] >= 1))
    assert 0.89 < covered < 0.97


def test_every_resample_has_the_same_number_of_prompts():
    counts = PairedBootstrap(37, 300, 0).counts
    assert counts.shape == (300, 37)
    assert (counts.sum(axis=1) == 37).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(37), abs=0.3)


def test_pairing_cancels_the_variation_between_prompts():
    rng = np.random.default_rng(2)
    difficulty, gain = rng.normal(0, 10, 500), rng.normal(0.1, 0.1, 500)
    low, high = PairedBootstrap(500, 500, 0).interval((difficulty + gain) - difficulty)
    assert 0.08 < low < 0.1 < high < 0.12


def test_the_same_seed_gives_the_same_interval():
    values = np.arange(50.0)
    first = PairedBootstrap(50, 200, 3).interval(values)
    assert first == PairedBootstrap(50, 200, 3).interval(values)
    assert first != PairedBootstrap(50, 200, 4).interval(values)


def test_one_prompt_has_no_standard_error():
    assert standard_error(np.array([1.0])) is None
    assert PairedBootstrap(1, 100, 0).interval(np.array([2.0])) == [2, 2]


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"Pass an array \(5, k\)"):
        PairedBootstrap(5, 100, 0).intervals(np.zeros((4, 2)))
    with pytest.raises(ValueError, match="at least one prompt"):
        PairedBootstrap(0, 100, 0)


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ([-1, 1], "nothing significant"),
        ([0, 0], "nothing significant"),
        ([0.1, 1], "better"),
        ([-1, -0.1], "worse"),
    ],
)
def test_the_verdict_depends_on_the_sign_of_the_interval(interval, expected):
    assert verdict(interval) == expected


def test_both_means_of_a_ratio_are_resampled_together():
    rng = np.random.default_rng(0)
    denominator = rng.normal(2, 1, 300)
    bootstrap = PairedBootstrap(300, 400, 0)
    assert bootstrap.ratio_interval(3 * denominator, denominator) == pytest.approx([3, 3])
    numerator = rng.normal(1, 1, 300)
    ratios = (bootstrap.counts @ numerator) / (bootstrap.counts @ denominator)
    assert bootstrap.ratio_interval(numerator, denominator) == pytest.approx(
        np.quantile(ratios, [0.025, 0.975]).tolist()
    )


def test_a_ratio_whose_denominator_may_be_0_has_no_interval():
    bootstrap = PairedBootstrap(50, 200, 0)
    denominator = np.random.default_rng(0).normal(0, 1, 50)
    assert bootstrap.ratio_interval(np.ones(50), denominator - denominator.mean()) is None
    assert bootstrap.ratio_interval(np.ones(50), -np.ones(50)) is None
    assert bootstrap.ratio_interval(np.ones(50), np.zeros(50)) is None


def test_a_rounding_error_is_not_a_gain():
    reference = np.array([34.7, -0.2, 0.3])
    assert gains_over(reference * (1 + 2e-16) + np.array([0, 0, 1e-6]), reference) == pytest.approx(
        [0, 0, 1e-6], abs=1e-15
    )
    assert gains_over(0.7 * reference + 0.3 * reference, reference).tolist() == [0, 0, 0]


def test_a_bootstrap_for_another_number_of_prompts_has_the_same_seed():
    bootstrap = PairedBootstrap(50, 200, 3)
    assert bootstrap.for_prompts(50) is bootstrap
    other = bootstrap.for_prompts(20)
    assert (other.counts == PairedBootstrap(20, 200, 3).counts).all()


def test_the_percentile_interval_leaves_out_2_5_percent_at_each_end():
    assert percentile_interval(np.arange(1001.0)) == pytest.approx([25, 975])
