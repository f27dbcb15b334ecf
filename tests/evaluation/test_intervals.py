import numpy as np
import pytest

from catimage.evaluation.intervals import PairedBootstrap, gains_over, standard_error, verdict


def test_close_to_the_normal_interval():
    values = np.random.default_rng(0).normal(3, 2, 4000)
    low, high = PairedBootstrap(4000, 2000, 0).interval(values)
    half = 1.96 * standard_error(values)
    assert low == pytest.approx(values.mean() - half, abs=0.08 * half) and high == pytest.approx(
        values.mean() + half, abs=0.08 * half
    )


def test_covers_about_as_often_as_it_says():
    rng, bootstrap = np.random.default_rng(1), PairedBootstrap(80, 500, 1)
    bounds = bootstrap.intervals(rng.exponential(1.0, (80, 600)))
    covered = np.mean((bounds[:, 0] <= 1) & (bounds[:, 1] >= 1))
    assert 0.89 < covered < 0.97


def test_every_draw_is_of_as_many_prompts():
    counts = PairedBootstrap(37, 300, 0).counts
    assert counts.shape == (300, 37) and (counts.sum(axis=1) == 37).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(37), abs=0.3)


def test_pairing_cancels_what_prompts_share():
    rng = np.random.default_rng(2)
    hard, gain = rng.normal(0, 10, 500), rng.normal(0.1, 0.1, 500)
    low, high = PairedBootstrap(500, 500, 0).interval((hard + gain) - hard)
    assert 0.08 < low < 0.1 < high < 0.12


def test_the_same_seed_gives_the_same_interval():
    values = np.arange(50.0)
    assert PairedBootstrap(50, 200, 3).interval(values) == PairedBootstrap(50, 200, 3).interval(
        values
    )
    assert PairedBootstrap(50, 200, 3).interval(values) != PairedBootstrap(50, 200, 4).interval(
        values
    )


def test_one_prompt_has_no_standard_error():
    assert standard_error(np.array([1.0])) is None
    assert PairedBootstrap(1, 100, 0).interval(np.array([2.0])) == [2, 2]


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="5, k"):
        PairedBootstrap(5, 100, 0).intervals(np.zeros((4, 2)))
    with pytest.raises(ValueError, match="a prompt"):
        PairedBootstrap(0, 100, 0)


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ([-1, 1], "nothing significant"),
        ([0, 0], "nothing significant"),
        ([0.1, 1], "better"),
        ([-1, -0.1], "worse"),
    ],
)
def test_verdict(interval, said):
    assert verdict(interval) == said


def test_a_ratio_of_means_is_resampled_together():
    rng = np.random.default_rng(0)
    below = rng.normal(2, 1, 300)
    bootstrap = PairedBootstrap(300, 400, 0)
    assert bootstrap.ratio_interval(3 * below, below) == pytest.approx([3, 3])
    above = rng.normal(1, 1, 300)
    ratios = (bootstrap.counts @ above) / (bootstrap.counts @ below)
    assert bootstrap.ratio_interval(above, below) == pytest.approx(
        np.quantile(ratios, [0.025, 0.975]).tolist()
    )


def test_a_ratio_over_what_may_be_nothing_has_no_interval():
    bootstrap = PairedBootstrap(50, 200, 0)
    below = np.random.default_rng(0).normal(0, 1, 50)
    assert bootstrap.ratio_interval(np.ones(50), below - below.mean()) is None
    assert (
        bootstrap.ratio_interval(np.ones(50), -np.ones(50)) is None
        and bootstrap.ratio_interval(np.ones(50), np.zeros(50)) is None
    )


def test_rounding_is_no_gain():
    rival = np.array([34.7, -0.2, 0.3])
    assert gains_over(rival * (1 + 2e-16) + np.array([0, 0, 1e-6]), rival) == pytest.approx(
        [0, 0, 1e-6], abs=1e-15
    )
    assert gains_over(0.7 * rival + 0.3 * rival, rival).tolist() == [0, 0, 0]
