from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from catimage.data.dataset import Candidates, Dataset
from catimage.data.schema import PROMPTS, SCORES
from catimage.evaluation.evaluate import Evaluation
from catimage.evaluation.test_data import LabelledPredictions
from catimage.evaluation.trials.document import sign_test, trials_and_reason, trials_document
from catimage.evaluation.trials.draws import trial_predictions
from catimage.params import EvaluateParams
from catimage.routing.curve import deferral_curve
from catimage.routing.policy import choose
from tests.evaluation.trials.conftest import COST, NAMES


def held_out_qualities(on_val, on_test, data):
    """Return the test quality at each candidate's cost, with lambda selected by brute force."""
    outcomes = []
    for lam in np.append(np.unique(deferral_curve(on_val, COST).lam) * (1 + 1e-9), 1e9):
        val, test = choose(on_val, COST, lam), choose(on_test, COST, lam)
        qualities = (
            labels[np.arange(60), picks].mean()
            for labels, picks in ((data.validation, val), (data.test, test))
        )
        outcomes.append((COST[val].mean(), *qualities))
    outcomes, qualities_at_costs = np.array(outcomes), []
    for c in COST:
        within = outcomes[outcomes[:, 0] <= c + 1e-9]
        top = within[within[:, 1] >= within[:, 1].max() - 1e-12]
        qualities_at_costs.append(top[np.argmin(top[:, 0]), 2])
    return qualities_at_costs


def test_the_table_agrees_with_a_brute_force_evaluation_of_each_trial(data):
    document = trials_document(data, NAMES, [1, 3], 30, seed=0)
    assert document["trials"] == 30
    assert document["seeds"] == 4
    assert [table["size"] for table in document["by_size"]] == [1, 3]
    table = document["by_size"][0]
    assert table["n_train"] == 200
    in_sample, held_out = [], []
    for on_val, on_test in trial_predictions(data, 1, 30, seed=0):
        curve = deferral_curve(on_test, COST, data.test)
        in_sample.append([curve.quality[curve.cost <= c + 1e-9].max() for c in COST])
        held_out.append(held_out_qualities(on_val, on_test, data))
    for m, row in enumerate(table["by_candidate"]):
        fixed = data.test[:, m].mean()
        assert row["fixed_quality"] == pytest.approx(fixed)
        for statistics, trials in (
            (row, np.array(in_sample)[:, m]),
            (row["selected"], np.array(held_out)[:, m]),
        ):
            assert statistics["quality"] == pytest.approx(trials.mean())
            assert statistics["sd"] == pytest.approx(trials.std(ddof=1))
            assert statistics["wins"] == (trials > fixed + 1e-9).sum()
            assert statistics["losses"] == (trials < fixed - 1e-9).sum()
            assert statistics["win_rate"] == statistics["wins"] / 30


def test_more_seeds_give_better_estimators_that_vary_less(data):
    tables = trials_document(data, NAMES, [1, 3], 40, seed=1)["by_size"]
    one, three = (table["by_candidate"][2] for table in tables)
    assert three["quality"] > one["quality"]
    assert three["sd"] < one["sd"]
    assert three["win_rate"] == 1


def test_the_sign_test_is_exact_and_two_sided_and_leaves_ties_out():
    nine_to_one = sign_test(np.array([1.0] * 9 + [-1.0] + [0.0] * 5), 0.0)
    assert nine_to_one["p_value"] == pytest.approx(2 * binom.cdf(1, 10, 0.5))
    assert sign_test(np.array([1.0] * 100), 0.0)["p_value"] == pytest.approx(2 * 0.5**100)
    tied = sign_test(np.array([0.3, 0.3]), 0.1 + 0.2)
    assert tied["p_value"] is None
    assert tied["wins"] == tied["losses"] == tied["win_rate"] == 0
    assert sign_test(np.array([1.0]), 0.0)["sd"] is None


def test_at_the_cost_of_the_cheapest_candidate_every_trial_is_a_tie(data):
    row = trials_document(data, NAMES, [1], 5, seed=0)["by_size"][0]["by_candidate"][0]
    assert row["wins"] == row["losses"] == 0
    assert row["p_value"] is None
    assert row["quality"] == pytest.approx(row["fixed_quality"])


def test_the_same_seed_gives_the_same_trials(data):
    first = trials_document(data, NAMES, [1], 6, seed=2)
    assert first == trials_document(data, NAMES, [1], 6, seed=2)
    assert first != trials_document(data, NAMES, [1], 6, seed=3)


@pytest.fixture
def evaluation():
    """An evaluation whose scores table has four seeds, but only one seed per prompt."""
    prompts = pd.DataFrame(
        [(f"id{i}", f"prompt {i}", "made up", "train") for i in range(4)], columns=PROMPTS.names
    )
    rows = [(f"id{i}", name, i, "q", "1", 0.5) for i in range(4) for name in "ab"]
    candidates = Candidates(["a", "b"], np.array([1.0, 2.0]), "s")
    dataset = Dataset(prompts, pd.DataFrame(rows, columns=SCORES.names), candidates)
    labels = np.zeros((4, 2))
    data = LabelledPredictions("q", labels, labels, labels)
    return Evaluation(None, dataset, dataset, [data])


def test_only_the_seeds_of_one_prompt_count_as_available(evaluation):
    reason = (
        "the training prompts have 1 seed, and no value of evaluate.trial_seeds (1, 3) is smaller"
    )
    assert trials_and_reason(evaluation, []) == (None, reason)


def test_trials_can_be_turned_off(evaluation):
    off = replace(evaluation, settings=EvaluateParams(trials=0))
    assert trials_and_reason(off, []) == (None, "evaluate.trials is 0")
