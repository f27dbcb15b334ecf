"""The tables in ``data/traffic/``, and the deletion of the texts of users."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from catimage.data.shards.lock import write_lock
from catimage.data.traffic import (
    OUTCOMES,
    TRAFFIC_PROMPTS,
    forget_users,
    read_traffic,
    write_traffic,
)
from catimage.errors import InputError
from catimage.workspace import Workspace
from tests.decision_rows import NOON


def prompts_of(*users: list[str]) -> pd.DataFrame:
    texts = [f"prompt {i}" for i in range(len(users))]
    columns = {"prompt_id": texts, "prompt": texts, "users": list(users)}
    return pd.DataFrame(columns).assign(
        time=pd.Timestamp(NOON), taken=pd.Timestamp(NOON), similarity=0.25
    )


def outcomes_of(*users: str | None) -> pd.DataFrame:
    rows = [
        (f"r{i}", pd.Timestamp(NOON), u, "p", "p", "a", {"a": 0.5, "b": 0.5}, 1.0, "usd", "m", 0.5)
        for i, u in enumerate(users)
    ]
    return pd.DataFrame(rows, columns=OUTCOMES.names)


def test_tables_are_read_as_they_were_written_and_equal_rows_give_equal_files(
    tmp_path: Path,
) -> None:
    path = tmp_path / "data" / "t.parquet"
    for frame, schema in (
        (prompts_of(["u1", "u2"], []), TRAFFIC_PROMPTS),
        (outcomes_of("u1", None), OUTCOMES),
    ):
        write_traffic(frame, path, schema)
        content = path.read_bytes()
        read = read_traffic(path, schema)
        assert read.to_dict("records") == frame.to_dict("records")
        write_traffic(read, path, schema)
        assert path.read_bytes() == content
    assert read_traffic(tmp_path / "missing", OUTCOMES).columns.tolist() == OUTCOMES.names


def test_the_texts_of_users_are_deleted_from_both_tables(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert forget_users(workspace, ["u1"]) == 0
    assert not workspace.traffic_prompts.exists()
    prompts = prompts_of(["u1"], ["u2"], ["u1", "u3"], [])
    write_traffic(prompts, workspace.traffic_prompts, TRAFFIC_PROMPTS)
    write_traffic(outcomes_of("u1", "u3", None), workspace.outcomes, OUTCOMES)
    before = workspace.outcomes.read_bytes()
    assert forget_users(workspace, ["u4", "u2"]) == 1
    assert workspace.outcomes.read_bytes() == before
    assert forget_users(workspace, ["u1"]) == 3
    left = read_traffic(workspace.traffic_prompts, TRAFFIC_PROMPTS)
    assert left["prompt"].tolist() == ["prompt 3"]
    assert read_traffic(workspace.outcomes, OUTCOMES)["request_id"].tolist() == ["r1", "r2"]
    assert b"prompt 0" not in workspace.traffic_prompts.read_bytes()


def test_a_deletion_does_not_run_beside_an_intake_and_damage_is_reported(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with write_lock(workspace.traffic), pytest.raises(InputError, match="holds the lock"):
        forget_users(workspace, ["u1"])
    workspace.traffic.mkdir(parents=True)
    workspace.traffic_prompts.write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"file is damaged\. Run 'catimage intake' again"):
        read_traffic(workspace.traffic_prompts, TRAFFIC_PROMPTS)
