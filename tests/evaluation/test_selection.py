import numpy as np
import pytest

from catimage.evaluation.operating_point import OperatingPoint
from catimage.evaluation.selection import (
    calibrated_rates,
    selection_document,
    selection_rates,
    selection_table,
)
from catimage.routing.policy import choose
from catimage.routing.randomized import RoutingRule
from tests.evaluation.synthetic import CANDIDATES, COST, NAMES, operating_point


def test_the_shares_of_the_table_agree_with_equation_3(data):
    noise = np.random.default_rng(0).normal(0, 0.05, (300, 3))
    predicted = data.predictions["good"][1] + noise
    frame = selection_table(predicted, CANDIDATES)
    assert list(frame.columns) == ["lambda", "candidate", "share"]
    assert frame["lambda"].nunique() <= 120
    assert frame.groupby("lambda")["share"].sum().to_numpy() == pytest.approx(1.0)
    for lam, rows in frame.groupby("lambda"):
        picked = choose(predicted, COST, lam)
        assert rows["share"].tolist() == [np.mean(picked == m) for m in range(3)]
    last = frame[frame["lambda"] == frame["lambda"].max()].set_index("candidate")["share"]
    assert last["cheap"] == 1


def test_the_document_has_one_row_per_lambda(data):
    predicted = data.predictions["good"][1]
    table, point = selection_table(predicted, CANDIDATES), operating_point("e", 2, 0.01, predicted)
    document = selection_document(table, point, CANDIDATES)
    assert document["candidates"] == NAMES
    assert len(document["rows"]) == table["lambda"].nunique()
    for lam, *shares in document["rows"]:
        assert shares == selection_rates(predicted, COST, lam).tolist()
        assert sum(shares) == pytest.approx(1)
    assert [row[0] for row in document["rows"]] == sorted(table["lambda"].unique())
    assert document["calibrated"] == calibrated_rates(point, COST)


def test_calibrated_rates_are_expectations_over_the_parts_of_the_rule():
    predicted = np.array([[0.0, 1.0], [0.0, 3.0], [0.0, 5.0], [1.0, 0.0]])
    cost = np.array([1.0, 2.0])
    assert calibrated_rates(operating_point("e", 2.0, 2.0, predicted), cost) == [0.5, 0.5]
    rule = RoutingRule.from_parts((0.3, 2.0), (0.7, 9.0))
    mixed = OperatingPoint("e", 2.0, rule, predicted, predicted, np.zeros(4))
    assert calibrated_rates(mixed, cost) == pytest.approx([0.3 * 0.5 + 0.7, 0.15])
