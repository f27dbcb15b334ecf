import json

import pytest

from catimage.data.importers.costs import parse_costs
from catimage.errors import InputError


@pytest.fixture
def parse(tmp_path):
    def parse_text(text, name="costs.csv"):
        (tmp_path / name).write_text(text)
        return parse_costs(tmp_path / name).to_numpy().tolist()

    return parse_text


def test_costs_are_read_in_the_order_of_the_file(parse):
    rows = [["b", 1.5, "usd"], ["a", 2.0, "seconds"]]
    assert parse("candidate,cost,unit\nb,1.5,usd\na,2,seconds\n") == rows
    assert parse("candidate;unit;cost\nb;usd;1,5\na;seconds;2\n") == rows
    records = [dict(zip(("candidate", "cost", "unit"), row, strict=True)) for row in rows]
    assert parse(json.dumps(records), "costs.json") == rows


def test_spellings_of_units_are_recognised(parse):
    text = "candidate,cost,unit\na,1,USD\na,1,s\na,1,TFLOPs\na,1,Wh\na,1,Unit\n"
    assert [row[2] for row in parse(text)] == ["usd", "seconds", "tflops", "wh", "unit"]


def test_the_unit_is_called_unit_if_there_is_no_column_of_units(parse):
    assert parse("candidate,cost\na,1\n") == [["a", 1.0, "unit"]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("b,-1,usd", "row 3: the cost is '-1', not a finite number, zero or more"),
        ("b,free,usd", "row 3: the cost is 'free'"),
        ("b,inf,usd", "row 3: the cost is 'inf'"),
        ("b,1,", "row 3: the unit is empty"),
        ("a,2,usd", "rows 2 and 3 both have candidate a, unit usd"),
        (
            "b,1,bananas",
            "row 3: the unit 'bananas' is unknown. Use one of tflops, seconds, usd, wh",
        ),
        ("b,1,secons", r"row 3: the unit 'secons' is unknown \(did you mean 'seconds'\?\)"),
        ("../b,1,usd", "row 3: the candidate '../b' is a path"),
    ],
)
def test_invalid_costs_are_refused(parse, row, message):
    with pytest.raises(InputError, match=message):
        parse(f"candidate,cost,unit\na,1,usd\n{row}\n")
