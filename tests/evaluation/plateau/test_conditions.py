from dataclasses import replace

import numpy as np
import pytest

from catimage.evaluation.plateau.conditions import baseline_condition, conditions
from tests.evaluation.plateau.step_data import COST, STEPS, predicted_turning_points, step_data


def test_the_condition_uniform_has_the_cost_of_ours_and_mixes_neighbouring_steps():
    data = step_data()
    by_name = conditions(data, predicted_turning_points(data))
    ours, uniform = by_name["ours"], by_name["uniform"]
    assert uniform.expected_cost.mean() == pytest.approx(ours.expected_cost.mean())
    used = np.flatnonzero(uniform.share[0])
    assert len(used) == 2
    assert np.diff(used) == [1]
    assert uniform.steps.mean() == pytest.approx(ours.steps.mean())
    single = np.flatnonzero(by_name["uniform_step"].share[0])
    distances = np.abs(STEPS - ours.steps.mean())
    assert distances[single[0]] == distances.min()
    assert by_name["shuffled"].expected_cost.mean() == pytest.approx(ours.expected_cost.mean())
    assert by_name["reference"].cost[by_name["reference"].share[0].argmax()] == 9.0


def test_the_condition_ours_has_the_chosen_number_of_steps_of_each_prompt():
    data = step_data()
    t_star = predicted_turning_points(data)
    ours = conditions(data, t_star)["ours"]
    for p in (0, 1, 17):
        quality = data.quality[p, :, t_star[p]]
        assert ours.quality[p] == pytest.approx(quality)
        assert ours.efficiency[p] == pytest.approx(quality / COST[t_star[p]])
        assert ours.seconds[p] == pytest.approx(0.1 * STEPS[t_star[p]])


def test_the_condition_shuffled_is_the_mean_over_all_assignments_of_the_steps():
    data = replace(step_data(4), seconds=None)
    t_star = np.array([0, 0, 1, 3])
    shuffled = conditions(data, t_star)["shuffled"]
    assert shuffled.seconds is None
    assigned = [[data.quality[p, :, s] for p in range(4)] for s in t_star]
    assert shuffled.quality == pytest.approx(np.mean(assigned, axis=0))


def test_a_baseline_is_one_candidate_for_all_prompts():
    data = step_data()
    condition = baseline_condition(data.baselines[0])
    assert (condition.expected_cost == 5.0).all()
    assert condition.steps is None
