import json

import pytest

from catimage.common.formatting import (
    format_gain,
    format_json,
    format_number,
    format_percent,
    format_share,
    format_table,
)


def test_missing_numbers_are_dashes():
    assert format_number(None) == "-"
    assert format_percent(None) == "-"
    assert format_share(None, None) == "-"
    assert format_percent(0.5512) == "55.1%"
    assert format_number(1234567.0) == "1.235e+06"


def test_gains_and_shares_are_followed_by_their_intervals():
    assert format_gain(0.01234, [0.008, 0.0161]) == "+0.0123 [0.008, 0.0161]"
    assert format_share(0.5, [0.4, 0.61]) == "50% [40%, 61%]"


def test_columns_are_aligned():
    header, rows = ["a", "b", "c"], [["x", "1", "yes"], ["long", "12345", "no"]]
    assert format_table(header, rows) == [
        "a         b  c",
        "----  -----  ---",
        "x         1  yes",
        "long  12345  no",
    ]
    assert format_table(header, rows, align="lll", rule=False) == [
        "a     b      c",
        "x     1      yes",
        "long  12345  no",
    ]


def test_a_table_of_one_column_has_no_padding():
    assert format_table(["name"], [["a"]]) == ["name", "----", "a"]


def test_lists_of_numbers_are_on_one_line():
    document = {"curve": [[1.0, 2.0, None], [3.0, 4.0, 0.1]], "a": "[\n 1 ]", "none": []}
    text = format_json(document)
    assert "[1.0, 2.0, null]" in text
    assert json.loads(text) == document
    with pytest.raises(ValueError, match="JSON"):
        format_json({"value": float("nan")})
