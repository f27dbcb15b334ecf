"""JSON and parquet files of users, and the formats of all files."""

import json
import math

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catimage.data.importers import records
from catimage.data.importers.tables import read_prompts_table, read_user_table
from catimage.errors import InputError


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def columns_of(path):
    rows = read_user_table(path)
    return {name: rows.cells(name).to_pylist() for name in rows.names}


@pytest.mark.parametrize("chunk", [1, 2, 50_000])
def test_columns_of_json_are_the_keys_of_all_records(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(records, "CHUNK", chunk)
    rows = [{"a": "x", "b": 1}, {"a": None, "c": [1]}, {"b": 0.1}, {"a": "y", "b": 2**64 - 1}]
    expected = {
        "a": ["x", "", "", "y"],
        "b": ["1", "", "0.1", "18446744073709551615"],
        "c": ["", "[1]", "", ""],
    }
    assert columns_of(write(tmp_path / "r.json", json.dumps(rows))) == expected
    lines = "\n\n".join(json.dumps(row) for row in rows)
    path = write(tmp_path / "r.jsonl", lines)
    assert columns_of(path) == expected
    assert read_user_table(path).row_numbers.tolist() == [1, 3, 5, 7]


def test_an_unused_column_of_json_may_contain_anything(tmp_path):
    rows = read_user_table(write(tmp_path / "r.jsonl", '{"a": "x", "b": "\\ud83d"}\n'))
    assert rows.cells("a").to_pylist() == ["x"]
    with pytest.raises(InputError, match="row 1: the b contains a lone surrogate"):
        rows.cells("b")


def test_numbers_of_parquet_files_are_read_exactly(tmp_path):
    values = [0.1 + 0.2, 1e-300, -0.0, 3.0, None, math.pi]
    pq.write_table(
        pa.table({"v": values, "s": pa.array([2**64 - 1] * 6, pa.uint64())}), tmp_path / "p.parquet"
    )
    columns = columns_of(tmp_path / "p.parquet")
    assert columns["v"][4] == ""
    assert [float(text) for text in columns["v"] if text] == [v for v in values if v is not None]
    assert set(columns["s"]) == {str(2**64 - 1)}


def test_parquet_columns_with_full_stops_in_their_names_are_read(tmp_path):
    pd.DataFrame({"sd-1.5": [1], "sd-1": [2]}).to_parquet(tmp_path / "p.parquet")
    assert columns_of(tmp_path / "p.parquet") == {"sd-1.5": ["1"], "sd-1": ["2"]}


def test_a_file_without_names_of_columns_has_the_requested_column(tmp_path):
    for name, text in (("a.txt", "x\n\ny\n"), ("a.json", '["x", "y"]'), ("a.jsonl", '"x"\n"y"\n')):
        rows = read_prompts_table(write(tmp_path / name, text), "caption")
        assert (rows.names, rows.cells("caption").to_pylist()) == (["caption"], ["x", "y"])


@pytest.mark.parametrize("name", ["scores.xlsx", "scores", "scores.txt"])
def test_an_unknown_format_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=r"unknown file format.*\.csv, \.tsv, \.jsonl, \.json"):
        read_user_table(write(tmp_path / name, "x"))


def test_the_suffix_may_be_in_capitals(tmp_path):
    assert columns_of(write(tmp_path / "S.CSV", "a\n1\n")) == {"a": ["1"]}
