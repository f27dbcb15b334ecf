import numpy as np
import pytest

from catimage.evaluation.budget import Operating
from catimage.evaluation.selection import (
    calibrated_rates,
    rates,
    selection_document,
    selection_table,
)
from catimage.routing.policy import choose
from catimage.routing.randomized import Rule
from tests.evaluation.worlds import COST, NAMES, operating


def test_selection_shares_are_what_the_rule_chooses(world):
    predicted = world.predictions["good"][1] + np.random.default_rng(0).normal(0, 0.05, (300, 3))
    frame = selection_table(predicted, COST, NAMES)
    assert (
        list(frame.columns) == ["lambda", "candidate", "share"] and frame["lambda"].nunique() <= 120
    )
    assert frame.groupby("lambda")["share"].sum().to_numpy() == pytest.approx(1.0)
    for lam, rows in frame.groupby("lambda"):
        picked = choose(predicted, COST, lam)
        assert rows["share"].tolist() == [np.mean(picked == m) for m in range(3)]
    last = frame[frame["lambda"] == frame["lambda"].max()].set_index("candidate")["share"]
    assert last["cheap"] == 1


def test_the_document_has_the_table_a_row_a_lambda(world):
    predicted = world.predictions["good"][1]
    table = selection_table(predicted, COST, NAMES)
    document = selection_document(table, NAMES)
    assert document["candidates"] == NAMES and len(document["rows"]) == table["lambda"].nunique()
    for lam, *shares in document["rows"]:
        assert shares == rates(predicted, COST, lam).tolist() and sum(shares) == pytest.approx(1)
    assert [row[0] for row in document["rows"]] == sorted(table["lambda"].unique())


def test_calibrated_rates_are_expectations_over_the_parts_of_the_rule():
    predicted = np.array([[0.0, 1.0], [0.0, 3.0], [0.0, 5.0], [1.0, 0.0]])
    cost = np.array([1.0, 2.0])
    assert calibrated_rates(operating("e", 2.0, 2.0, predicted), cost) == [0.5, 0.5]
    mixed = Operating("e", 2.0, Rule.of((0.3, 2.0), (0.7, 9.0)), predicted, predicted, np.zeros(4))
    assert calibrated_rates(mixed, cost) == pytest.approx([0.3 * 0.5 + 0.7, 0.15])
