import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catimage.errors import InputError
from catimage.routing.curve import deferral_curve
from catimage.routing.floors import best_with_floors, cheapest_reaching, largest, smallest_budget
from catimage.routing.randomized import rule_within
from tests.routing.problems import means, problems, programme

COST = np.array([1.0, 2.0, 4.0])


@settings(max_examples=100, deadline=None)
@given(problems(), st.floats(0, 1))
def test_the_cheapest_routing_of_a_quality_is_the_inverse_of_the_best_of_a_budget(problem, share):
    scores, cost = problem
    curve = deferral_curve(scores[0], cost)
    floor = curve.quality[-1] + share * (curve.quality[0] - curve.quality[-1])
    rule, spent = cheapest_reaching(curve, floor)
    assert means(rule, scores, cost) == (
        pytest.approx(spent, abs=1e-7),
        pytest.approx([floor], abs=1e-6),
    )
    assert programme(scores, cost, spent + 1e-9) == pytest.approx(floor, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(problems(metrics=2), st.floats(-4, 4))
def test_by_labels_it_is_the_cheapest_point_of_the_line_through_the_curve(problem, floor):
    (predicted, labels), cost = problem
    curve = deferral_curve(predicted, cost, labels)
    if abs(curve.quality.max() - floor) < 1e-9:
        return
    if curve.quality.max() < floor:
        with pytest.raises(InputError, match=r"above all that routing reaches .* lower it"):
            cheapest_reaching(curve, floor)
        return
    rule, spent = cheapest_reaching(curve, floor)
    choices = rule.choices(predicted, cost)
    assert rule.expected(choices, labels).mean() >= floor - 1e-6 and rule.expected(
        choices, cost
    ).mean() == pytest.approx(spent, abs=1e-6)
    grid = np.linspace(0, len(curve) - 1, 400)
    reached = np.interp(grid, np.arange(len(curve)), curve.quality) >= floor + 1e-9
    assert (
        not reached.any()
        or spent <= np.interp(grid, np.arange(len(curve)), curve.cost)[reached].min() + 1e-9
    )
    alone, dearer = cheapest_reaching(curve, floor, mix=False)
    assert len(alone.share) == 1 and dearer >= spent - 1e-9


def world(n=300, noise=0.1):
    rng = np.random.default_rng(0)
    truth = np.stack(
        [
            rng.normal(size=(n, 1)) * np.log(COST),
            rng.normal(size=(n, 1)) * -np.log(COST) + [0.0, 0.1, 0.3],
        ]
    )
    return truth, truth + noise * rng.normal(size=truth.shape)


def test_labels_keep_their_floors_where_predictions_are_off():
    truth, labels = world()
    predicted = (
        truth + np.array([0.0, 0.25])[:, None, None]
    )  # the other metric is promised a quarter too much
    found = best_with_floors(predicted, labels[1:], COST, 2.0, np.array([0.3]), ["sharpness"])
    assert found.kept == pytest.approx([0.3], abs=1e-6) and found.mean_cost == pytest.approx(2.0)
    free = rule_within(deferral_curve(predicted[0], COST), 2.0, 1.0)[0]
    assert means(free, labels, COST)[1][1] < 0.2 and (found.rule.multipliers > 0).all()


def test_a_floor_that_is_kept_anyway_changes_nothing():
    truth, labels = world()
    found = best_with_floors(truth, labels[1:], COST, 2.0, np.array([-5.0]), ["sharpness"])
    plain, spent = rule_within(deferral_curve(truth[0], COST), 2.0, 1.0)
    assert found.mean_cost == pytest.approx(spent) and not found.rule.multipliers.any()
    assert means(found.rule, truth, COST)[1][0] == pytest.approx(means(plain, truth, COST)[1][0])


def test_holes_in_the_labels_of_a_floor():
    truth, labels = world()
    labels[1, :50, 0] = np.nan
    found = best_with_floors(truth, labels[1:], COST, 2.0, np.array([0.2]), ["sharpness"])
    choices = found.rule.choices(truth, COST)
    assert (
        found.rule.expected(choices, labels[1])[50:].mean()
        == pytest.approx(0.2, abs=1e-6)
        == found.kept[0]
    )


def test_what_cannot_be_met_says_what_can():
    truth, labels = world()
    with pytest.raises(InputError) as refused:
        best_with_floors(truth, labels[1:], COST, 1.2, np.array([0.5]), ["sharpness"])
    most, least = largest(truth, COST, 1.2, 0), smallest_budget(truth, COST, np.array([0.5]))
    assert f"sharpness {most:.6g} at most" in str(
        refused.value
    ) and f"a budget of {least:.4g} does" in str(refused.value)
    assert programme(truth[[1]], COST, 1.2) == pytest.approx(most, abs=1e-7)
    assert (
        programme(truth, COST, least + 1e-6, [0.5]) is not None
        and programme(truth, COST, least - 1e-3, [0.5]) is None
    )
    with pytest.raises(InputError, match="no budget does: lower the floors"):
        best_with_floors(truth, labels[1:], COST, 1.2, np.array([50.0]), ["sharpness"])
    with pytest.raises(InputError, match="below the cheapest"):
        best_with_floors(truth, labels[1:], COST, 0.5, np.array([0.1]), ["sharpness"])


def test_labels_that_never_reach_what_is_predicted_are_told():
    truth, labels = world()
    with pytest.raises(
        InputError, match=r"by what is predicted, has sharpness .*: lower the floors to that"
    ):
        best_with_floors(
            truth + np.array([0.0, 9.0])[:, None, None],
            labels[1:],
            COST,
            2.0,
            np.array([9.0]),
            ["sharpness"],
        )
