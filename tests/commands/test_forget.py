"""``catimage forget``: the rows of a user in the decision log of a service and in data/traffic/."""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

import pytest

from catimage.commands import forget as module
from catimage.commands.forget import forget
from catimage.data.decisions import read_decisions
from catimage.data.traffic import TRAFFIC_PROMPTS, read_traffic, write_traffic
from catimage.errors import InputError
from catimage.params import Params
from catimage.serving.state.store import State
from catimage.workspace import Workspace
from tests.decision_rows import NOON, decision_row, save_decisions

SECRET = "a secret of the test"
ALICE = hmac.new(SECRET.encode(), b"alice@example.org", hashlib.sha256).hexdigest()[:32]
BOB = "b" * 32


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("CATIMAGE_STATE_URL", f"sqlite:///{tmp_path}/state.db")
    monkeypatch.setenv("CATIMAGE_LOG_FOLDER", str(tmp_path / "log"))
    monkeypatch.setenv("CATIMAGE_SECRET", SECRET)
    users = (ALICE, BOB, None)
    rows = [decision_row(i, f"prompt {i}", user=user) for i, user in enumerate(users)]
    save_decisions(tmp_path / "log", rows)
    workspace = Workspace(tmp_path / "workspace")
    workspace.traffic.mkdir(parents=True)
    prompts = read_traffic(workspace.traffic_prompts, TRAFFIC_PROMPTS)
    prompts["similarity"] = prompts["similarity"].astype(float)
    for i, senders in enumerate(([ALICE, BOB], [BOB])):
        prompts.loc[i] = [f"id{i}", f"prompt {i}", senders, NOON, NOON, 0.5]
    write_traffic(prompts, workspace.traffic_prompts, TRAFFIC_PROMPTS)
    return workspace


def logged(workspace: Workspace) -> list[str]:
    return read_decisions(workspace.root.parent / "log")["user"].dropna().tolist()


@pytest.mark.parametrize("by", ["hash", "name"])
def test_a_user_is_deleted_by_hash_or_by_name(workspace: Workspace, by: str) -> None:
    hashes, names = ([ALICE], []) if by == "hash" else ([], ["alice@example.org"])
    summary = forget(workspace, Params(), hashes, names)
    assert (summary.log_rows, summary.log_files, summary.traffic_rows) == (1, 1, 1)
    assert summary.users == (ALICE,)
    assert logged(workspace) == [BOB]
    kept = read_traffic(workspace.traffic_prompts, TRAFFIC_PROMPTS)
    assert kept["prompt_id"].tolist() == ["id1"]


def test_the_secret_in_the_state_is_that_of_the_service(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CATIMAGE_SECRET")
    state = State.open(os.environ["CATIMAGE_STATE_URL"])
    carol = hmac.new(state.secret(), b"carol", hashlib.sha256).hexdigest()[:32]
    state.close()
    save_decisions(workspace.root.parent / "log", [decision_row(9, "p", user=carol)])
    assert forget(workspace, Params(), [], ["carol"]).log_rows == 1
    assert carol not in logged(workspace)


def test_rows_that_a_running_replica_still_writes_are_deleted(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = State.open(os.environ["CATIMAGE_STATE_URL"])
    state.replicas.report("replica-1", "1", "0")
    state.close()
    folder = workspace.root.parent / "log"

    def flush(seconds: float) -> None:
        save_decisions(folder, [decision_row(7, "p", user=ALICE)])

    monkeypatch.setattr(module.time, "sleep", flush)
    assert forget(workspace, Params(), [ALICE], []).log_rows == 2
    assert logged(workspace) == [BOB]


@pytest.mark.parametrize(
    ("hashes", "message"),
    [
        (["alice"], "USER_HASH: 'alice' is not a hashed id, which has 32"),
        ([], "USER_HASH: missing. Give a hashed id"),
    ],
)
def test_an_invalid_id_deletes_no_row(
    workspace: Workspace, hashes: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        forget(workspace, Params(), hashes, [])
    assert logged(workspace) == [ALICE, BOB]
