"""The files of the decision log."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from catimage.data.decisions import (
    delete_old_decisions,
    merge_decisions,
    read_decisions,
    write_decisions,
)
from catimage.data.schema import DECISIONS
from catimage.errors import InputError

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


def row(minute: float, **values: object) -> dict[str, object]:
    empty = dict.fromkeys(DECISIONS.names) | {"propensities": [], "qualities": []}
    return empty | {"time": NOON + timedelta(minutes=minute), "request_id": f"{minute:g}"} | values


def ids(folder: Path, **limits: datetime) -> list[str]:
    return read_decisions(folder, **limits)["request_id"].tolist()


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    vector = np.linspace(-1, 1, 8, dtype=np.float16)
    full = row(
        1, embedding=vector, propensities=[("a", 0.75), ("b", 0.25)], cost=2.5, images=1, status=200
    )
    write_decisions(tmp_path, "r/1 ", 0, [full, row(2)])
    frame = read_decisions(tmp_path)
    assert list(frame.columns) == DECISIONS.names
    assert frame["propensities"].tolist() == [{"a": 0.75, "b": 0.25}, {}]
    assert frame["embedding"][0].dtype == np.float16
    assert np.array_equal(frame["embedding"][0], vector) and frame["embedding"][1] is None
    assert frame["cost"][0] == 2.5 and frame["time"][0] == NOON + timedelta(minutes=1)
    assert [p.parent for p in tmp_path.rglob("*.parquet")] == [tmp_path]


def test_an_empty_or_missing_folder_has_no_rows(tmp_path: Path) -> None:
    assert list(read_decisions(tmp_path / "missing").columns) == DECISIONS.names
    assert len(read_decisions(tmp_path)) == 0


def test_rows_are_selected_by_time_without_reading_older_files(tmp_path: Path) -> None:
    write_decisions(tmp_path, "a", 0, [row(0), row(1)])
    write_decisions(tmp_path, "b", 0, [row(1.5), row(3)])
    oldest = min(tmp_path.glob("*.parquet"))
    assert ids(tmp_path) == ["0", "1", "1.5", "3"]
    oldest.write_bytes(b"damaged")
    assert ids(tmp_path, since=NOON + timedelta(minutes=2)) == ["3"]
    limits = {"since": NOON + timedelta(minutes=1.5), "until": NOON + timedelta(minutes=3)}
    assert ids(tmp_path, **limits) == ["1.5"]
    with pytest.raises(InputError, match=r"the file is damaged\. Move the file to another"):
        read_decisions(tmp_path)
    with pytest.raises(InputError, match="since: the time has no time zone"):
        read_decisions(tmp_path, since=datetime(2026, 5, 4))


def test_a_file_with_other_columns_is_refused(tmp_path: Path) -> None:
    path = write_decisions(tmp_path, "a", 0, [row(0)])
    pq.write_table(pq.read_table(path).drop_columns(["score"]), path)
    with pytest.raises(InputError, match="differ from the schema of the decision log"):
        read_decisions(tmp_path)


def test_merging_keeps_every_row_once_and_survives_a_kill(tmp_path: Path) -> None:
    paths = [write_decisions(tmp_path, "a", i, [row(i)]) for i in range(4)]
    other = write_decisions(tmp_path, "b", 0, [row(0.5)])
    contents = {path: path.read_bytes() for path in paths}
    merged = merge_decisions(tmp_path, "a", NOON + timedelta(minutes=2.5))
    assert merged is not None
    assert set(tmp_path.glob("*.parquet")) == {merged, paths[3], other}
    expected = ["0", "0.5", "1", "2", "3"]
    assert ids(tmp_path) == expected
    for path in paths[:3]:  # a kill before the merged files were deleted
        path.write_bytes(contents[path])
    assert ids(tmp_path) == expected
    assert merge_decisions(tmp_path, "a", NOON + timedelta(minutes=2.5)) is None
    assert set(tmp_path.glob("*.parquet")) == {merged, paths[3], other}
    write_decisions(tmp_path, "a", 4, [row(4)])
    assert merge_decisions(tmp_path, "a", NOON + timedelta(hours=1)) is not None
    assert ids(tmp_path) == [*expected, "4"]
    assert len(list(tmp_path.glob("*.parquet"))) == 3


def test_old_files_and_abandoned_temporary_files_are_deleted(tmp_path: Path) -> None:
    write_decisions(tmp_path, "a", 0, [row(0)])
    write_decisions(tmp_path, "b", 0, [row(10)])
    (tmp_path / "notes.parquet").write_text("of somebody else")
    fresh, abandoned = tmp_path / ".decisions-1.new", tmp_path / ".decisions-0.new"
    for path in (fresh, abandoned):
        path.write_text("half a file")
    os.utime(abandoned, (time.time() - 2 * 86400,) * 2)
    assert delete_old_decisions(tmp_path, NOON + timedelta(minutes=5)) == 1
    assert ids(tmp_path) == ["10"]
    assert {p.name for p in tmp_path.iterdir()} >= {"notes.parquet", fresh.name}
    assert not abandoned.exists()
