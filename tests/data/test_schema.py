import pandas as pd
import pytest

from catimage.data.schema import CANDIDATES, read_table, write_table
from catimage.errors import InputError

ROW = {"candidate": "a", "generator": "g", "steps": 4, "cost": 1.5, "unit": "tflops"}


def test_a_table_is_unchanged_by_a_round_trip(tmp_path):
    write_table(pd.DataFrame([ROW]), tmp_path / "t.parquet", CANDIDATES)
    assert read_table(tmp_path / "t.parquet", CANDIDATES, "generate").to_dict("records") == [ROW]


def test_wrong_columns_or_types_are_refused_and_no_file_is_written(tmp_path):
    path = tmp_path / "t.parquet"
    for frame in (
        pd.DataFrame([{**ROW, "more": 1}]),
        pd.DataFrame([{"candidate": "a"}]),
        pd.DataFrame([{**ROW, "cost": "high"}]),
    ):
        with pytest.raises(InputError):
            write_table(frame, path, CANDIDATES)
    assert not any(tmp_path.iterdir())


def test_an_error_about_a_missing_or_damaged_file_names_the_stage(tmp_path):
    with pytest.raises(InputError, match="Run 'catimage generate' first"):
        read_table(tmp_path / "none.parquet", CANDIDATES, "generate")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match="again"):
        read_table(tmp_path / "bad.parquet", CANDIDATES, "generate")
