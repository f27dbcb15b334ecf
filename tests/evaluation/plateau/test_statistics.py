from dataclasses import replace

import numpy as np
import pytest

from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.plateau.conditions import StepData, conditions
from catimage.evaluation.plateau.statistics import (
    TRAINING_MEAN,
    condition_gain,
    error_by_step,
    prediction_errors,
    step_distribution,
)
from catimage.params import PlateauParams
from tests.evaluation.plateau.step_data import STEPS, predicted_turning_points, step_data


def test_the_gain_of_ours_over_uniform_is_equation_9_and_shuffled_steps_are_worse():
    data = step_data()
    by_condition = conditions(data, predicted_turning_points(data))
    bootstrap = PairedBootstrap(200, 300, 0)
    gain = condition_gain(by_condition["ours"], by_condition["uniform"], 0, bootstrap)
    a, b = by_condition["ours"].quality[:, 0], by_condition["uniform"].quality[:, 0]
    assert gain["relative"] == pytest.approx((a / b - 1).mean())
    assert gain["relative_se"] == pytest.approx((a / b - 1).std(ddof=1) / np.sqrt(200))
    assert gain["of_means"] == pytest.approx(a.mean() / b.mean() - 1)
    assert gain["of_means_interval"][0] <= gain["of_means"] <= gain["of_means_interval"][1]
    assert gain["verdict"] == "better"
    over_shuffled = condition_gain(by_condition["ours"], by_condition["shuffled"], 0, bootstrap)
    assert over_shuffled["interval"][0] > 0


def test_equation_9_is_undefined_if_a_quality_is_0():
    data = step_data()
    data.quality[0, 0] = 0.0
    by_condition = conditions(data, predicted_turning_points(data))
    gain = condition_gain(
        by_condition["ours"], by_condition["uniform"], 0, PairedBootstrap(200, 300, 0)
    )
    assert (gain["relative"], gain["relative_se"], gain["relative_interval"]) == (None, None, None)
    assert np.isfinite(gain["gain"])


def test_equation_8_alone_rewards_unequal_costs():
    """If half of the prompts have 1 step and half have 16 steps at random, equation 8 is better
    than with equal costs, although the images are worse.
    """
    data = step_data()
    random_stops = np.random.default_rng(0).permutation(np.repeat([0, 4], 100))
    by_condition = conditions(data, random_stops)
    assert by_condition["shuffled"].efficiency.mean() > by_condition["uniform"].efficiency.mean()
    assert by_condition["shuffled"].quality.mean() < by_condition["uniform"].quality.mean()


def test_table_1_lists_every_estimator_and_the_mean_of_the_training_labels():
    data = step_data(noise=0.05)
    bootstrap = PairedBootstrap(200, 300, 0)
    errors = prediction_errors(data, 1, "lstm", bootstrap)
    expected = np.abs(data.predicted["lstm"][:, 1] - data.quality[:, 1]).mean(axis=1)
    assert errors["lstm"]["mae"] == pytest.approx(expected.mean())
    assert errors["lstm"]["difference"] == 0.0
    assert errors["lstm"]["difference_interval"] == [0.0, 0.0]
    assert errors["constant"]["mae"] == pytest.approx(errors[TRAINING_MEAN]["mae"])
    assert errors["constant"]["difference_interval"][0] > 0
    predicted = {**data.predicted, "other": np.full_like(data.quality, np.nan)}
    without = replace(data, predicted=predicted)
    assert "other" not in prediction_errors(without, 0, "lstm", bootstrap)


def test_figure_12_has_one_error_per_number_of_steps():
    data = step_data(noise=0.05)
    rows = error_by_step(data, 0, "lstm")
    assert [row["steps"] for row in rows] == STEPS.tolist()
    expected = np.abs(data.predicted["lstm"][:, 0] - data.quality[:, 0]).mean()
    assert np.mean([row["mae"] for row in rows]) == pytest.approx(expected)
    assert all(row["mae"] < row["mae_of_mean"] for row in rows[:2])


def test_the_distribution_of_steps_by_predictions_and_by_labels():
    data, omega = step_data(), np.array([0.3, 0.3])
    t_star = predicted_turning_points(data)
    bootstrap = PairedBootstrap(200, 200, 0)
    chosen = step_distribution(data, t_star, omega, PlateauParams(), bootstrap)
    assert sum(chosen["share"]) == pytest.approx(1)
    assert chosen["mean"] == pytest.approx(STEPS[t_star].mean())
    assert chosen["known"]["share"] == chosen["share"]
    assert chosen["correlation"] == pytest.approx(1)
    by_condition = conditions(data, t_star)
    expected = (by_condition["ours"].quality - by_condition["uniform"].quality)[:, 1].mean()
    assert chosen["known"]["gains"]["alike"]["gain"] == pytest.approx(expected)
    constant = step_distribution(data, np.zeros(200, int), omega, PlateauParams(), bootstrap)
    assert constant["correlation"] is None


def test_rounding_errors_are_not_gains():
    """If OURS has the same number of steps for all prompts, OURS equals UNIFORM, but the means of
    their costs may differ in the last digit.
    """
    rng = np.random.default_rng(0)
    bootstrap = PairedBootstrap(37, 100, 0)
    for _ in range(30):
        quality, cost = rng.random((37, 1, 3)), np.sort(rng.random(3))
        mean = quality.mean(axis=0)
        steps = np.arange(1, 4)
        data = StepData(list("abc"), steps, cost, "s", ["m"], {}, quality, {}, mean, 1)
        by_condition = conditions(data, np.ones(37, int))
        for name in ("uniform", "uniform_step", "shuffled", "reference"):
            gain = condition_gain(by_condition["ours"], by_condition[name], 0, bootstrap)
            assert gain["gain"] == gain["efficiency"] == 0
            assert gain["interval"] == gain["efficiency_interval"] == [0, 0]
