from dataclasses import replace

import numpy as np
import pytest
from catimage.evaluation.formatting import plateau_lines
from catimage.evaluation.plateau_conditions import Baseline, StepData, conditions, of_baseline

from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.plateau import MEAN, chosen, error_by_step, errors, gain, plateau_document
from catimage.params import PlateauParams
from catimage.routing.plateau import turning_points
from catimage.routing.plateau_weights import PlateauWeights

STEPS = np.array([1, 2, 4, 8, 16])
COST = STEPS + 1.0


def world(n=200, noise=0.0, seed=0):
    """Half of the prompts are done at 2 steps, the others need 16; ``lstm`` knows, up to noise."""
    rng = np.random.default_rng(seed)
    pace = np.where(np.arange(n) % 2, 0.5, 5.0)[:, None, None] * np.array([1.0, 1.5])[None, :, None]
    quality = 1.2 - np.exp(-STEPS / pace) + 0.01 * rng.standard_normal((n, 2, 1))
    predicted = quality + noise * rng.standard_normal(quality.shape)
    blind = np.broadcast_to(quality.mean(axis=0), quality.shape)
    return StepData(
        candidates=[f"sd-{s}" for s in STEPS],
        steps=STEPS,
        cost=COST,
        unit="tflops",
        metrics=["sharp", "alike"],
        inverted={"sharp": 1.0},
        quality=quality,
        predicted={"lstm": predicted, "blind": blind},
        mean=quality.mean(axis=0),
        reference=3,
        seconds=np.broadcast_to(0.1 * STEPS, (n, 5)),
        baselines=[Baseline("ddim-4", 5.0, quality[:, :, 2] - 0.1)],
    )


def stops_of(data, omega=(0.3, 0.3)):
    return turning_points(data.predicted["lstm"], np.array(omega))


def test_uniform_costs_what_ours_does_and_is_a_mix_of_neighbouring_steps():
    data = world()
    found = conditions(data, stops_of(data))
    ours, uniform = found["ours"], found["uniform"]
    assert uniform.spent.mean() == pytest.approx(ours.spent.mean())
    used = np.flatnonzero(uniform.share[0])
    assert len(used) == 2
    assert np.diff(used) == [1]
    assert uniform.steps.mean() == pytest.approx(ours.steps.mean())
    single = np.flatnonzero(found["uniform_step"].share[0])
    assert abs(STEPS[single[0]] - ours.steps.mean()) == np.abs(STEPS - ours.steps.mean()).min()
    assert found["shuffled"].spent.mean() == pytest.approx(ours.spent.mean())
    assert found["reference"].cost[found["reference"].share[0].argmax()] == 9.0


def test_ours_is_read_off_each_prompts_own_step():
    data = world()
    stops = stops_of(data)
    ours = conditions(data, stops)["ours"]
    for p in (0, 1, 17):
        assert ours.quality[p] == pytest.approx(data.quality[p, :, stops[p]])
        assert ours.efficiency[p] == pytest.approx(data.quality[p, :, stops[p]] / COST[stops[p]])
        assert ours.seconds[p] == pytest.approx(0.1 * STEPS[stops[p]])


def test_shuffled_is_the_mean_over_all_ways_of_dealing_the_steps_out():
    data = replace(world(4), seconds=None)
    stops = np.array([0, 0, 1, 3])
    found = conditions(data, stops)["shuffled"]
    assert found.seconds is None
    dealt = [[data.quality[p, :, s] for p in range(4)] for s in stops]
    assert found.quality == pytest.approx(np.mean(dealt, axis=0))


def test_equation_9_and_the_gain_of_knowing_the_prompt():
    data = world()
    found = conditions(data, stops_of(data))
    bootstrap = PairedBootstrap(200, 300, 0)
    over = gain(found["ours"], found["uniform"], 0, bootstrap)
    a, b = found["ours"].quality[:, 0], found["uniform"].quality[:, 0]
    assert over["relative"] == pytest.approx((a / b - 1).mean())
    assert over["relative_se"] == pytest.approx((a / b - 1).std(ddof=1) / np.sqrt(200))
    assert over["of_means"] == pytest.approx(a.mean() / b.mean() - 1)
    assert over["of_means_interval"][0] <= over["of_means"] <= over["of_means_interval"][1]
    assert over["verdict"] == "better"
    assert gain(found["ours"], found["shuffled"], 0, bootstrap)["interval"][0] > 0


def test_a_quotient_of_nothing_is_none():
    data = world()
    data.quality[0, 0] = 0.0
    found = conditions(data, stops_of(data))
    over = gain(found["ours"], found["uniform"], 0, PairedBootstrap(200, 300, 0))
    assert (over["relative"], over["relative_se"], over["relative_interval"]) == (None, None, None)
    assert np.isfinite(over["gain"])


def test_equation_8_alone_rewards_unequal_costs():
    """Steps dealt out blindly have a better mean quotient than the same compute spent evenly, at
    worse images.
    """
    data = world()
    blind = np.random.default_rng(0).permutation(np.repeat([0, 4], 100))
    found = conditions(data, blind)
    assert found["shuffled"].efficiency.mean() > found["uniform"].efficiency.mean()
    assert found["shuffled"].quality.mean() < found["uniform"].quality.mean()


def test_table_1_has_every_estimator_and_none_at_all():
    data = world(noise=0.05)
    found = errors(data, 1, "lstm", PairedBootstrap(200, 300, 0))
    each = np.abs(data.predicted["lstm"][:, 1] - data.quality[:, 1]).mean(axis=1)
    assert found["lstm"]["mae"] == pytest.approx(each.mean())
    assert (found["lstm"]["difference"], found["lstm"]["difference_interval"]) == (0.0, [0.0, 0.0])
    assert found["blind"]["mae"] == pytest.approx(found[MEAN]["mae"])
    assert found["blind"]["difference_interval"][0] > 0
    without = replace(
        data, predicted={**data.predicted, "other": np.full_like(data.quality, np.nan)}
    )
    assert "other" not in errors(without, 0, "lstm", PairedBootstrap(200, 300, 0))


def test_figure_12_is_an_error_a_step():
    data = world(noise=0.05)
    rows = error_by_step(data, 0, "lstm")
    assert [row["steps"] for row in rows] == STEPS.tolist()
    assert np.mean([row["mae"] for row in rows]) == pytest.approx(
        np.abs(data.predicted["lstm"][:, 0] - data.quality[:, 0]).mean()
    )
    assert all(row["mae"] < row["mae_of_mean"] for row in rows[:2])


def test_what_is_chosen_beside_what_the_labels_would_choose():
    data, omega = world(), np.array([0.3, 0.3])
    stops = stops_of(data)
    bootstrap = PairedBootstrap(200, 200, 0)
    found = chosen(data, stops, omega, PlateauParams(), bootstrap)
    assert sum(found["share"]) == pytest.approx(1)
    assert found["mean"] == pytest.approx(STEPS[stops].mean())
    assert found["known"]["share"] == found["share"]
    assert found["correlation"] == pytest.approx(1)
    both = conditions(data, stops)
    assert found["known"]["gains"]["alike"]["gain"] == pytest.approx(
        (both["ours"].quality - both["uniform"].quality)[:, 1].mean()
    )
    assert chosen(data, np.zeros(200, int), omega, PlateauParams(), bootstrap)["correlation"] is None


@pytest.mark.parametrize("n", [1, 200])
def test_the_document_is_json_and_tells_its_own_story(n):
    import json

    data = world(n)
    weights = PlateauWeights(np.array([0.3, 0.3]), 5.0, 0.1)
    document = plateau_document(data, PlateauParams(), weights, "given", 20, PairedBootstrap(n, 200, 0))
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert set(document["baselines"]) == {"ddim-4"}
    assert document["baselines"]["ddim-4"]["metrics"]["alike"]["efficiency"] == pytest.approx(
        (data.quality[:, 1, 2] - 0.1).mean() / 5
    )
    lines = plateau_lines(document)
    assert "weights as given: sharp 0.3, alike 0.3" in lines[1]
    assert sum("over UNIFORM at the same compute" in line for line in lines) == 2
    assert plateau_lines(None) == []


def test_a_baseline_is_one_candidate_for_all():
    data = world()
    found = of_baseline(data.baselines[0])
    assert (found.spent == 5.0).all()
    assert found.steps is None


def test_a_gain_that_is_rounding_is_none():
    """OURS that is one step for all is UNIFORM, though the mean of its costs is off by a last
    digit.
    """
    rng = np.random.default_rng(0)
    for _ in range(30):
        quality, cost = rng.random((37, 1, 3)), np.sort(rng.random(3))
        data = StepData(
            list("abc"), np.arange(1, 4), cost, "s", ["m"], {}, quality, {}, quality.mean(axis=0), 1
        )
        found = conditions(data, np.ones(37, int))
        for name in ("uniform", "uniform_step", "shuffled", "reference"):
            one = gain(found["ours"], found[name], 0, PairedBootstrap(37, 100, 0))
            assert (
                one["gain"] == 0 == one["efficiency"]
                and one["interval"] == [0, 0] == one["efficiency_interval"]
            )
