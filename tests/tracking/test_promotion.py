"""Promotion of registered versions: the reference, the gate prompts, and other processes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from catimage.commands.promote import promote
from catimage.data.schema import PROMPTS, write_table
from catimage.errors import InputError
from catimage.params import load_params
from catimage.stages import calibrate
from catimage.tracking import registry
from catimage.tracking.champions import set_challenger, set_champion
from catimage.tracking.client import CHALLENGER, CHAMPION, MODEL
from catimage.tracking.registry import RegistrationResult, register
from catimage.workspace import Workspace
from tests.provenance import record_inputs


def run(workspace: Workspace, *settings: str) -> RegistrationResult:
    return register(workspace, load_params(workspace.params, list(settings)))


def new_router(workspace: Workspace, lam: float | None = None) -> None:
    """Change the files of the router, and its lambda unless it is None."""
    path = workspace.router / "router.json"
    document = json.loads(path.read_text())
    document["changes"] = document.get("changes", 0) + 1
    if lam is not None:
        document["rule"] = [{"share": 1.0, "lambda": lam, "multipliers": {}}]
    path.write_text(json.dumps(document))
    record_inputs(workspace)


def client_of(workspace: Workspace) -> Any:
    import mlflow

    return mlflow.MlflowClient(f"sqlite:///{workspace.root / 'mlflow.db'}")


def aliases(workspace: Workspace) -> dict[str, str]:
    found = client_of(workspace).get_registered_model(MODEL).aliases
    return {alias: str(version) for alias, version in found.items()}


NOT_WORSE = ("promote.rule=not_worse", "promote.margin=0.02")


def test_the_margin_of_successive_champions_is_measured_from_one_reference(
    registered: Workspace,
) -> None:
    """The first router is the reference of equal ones. One for a smaller budget is a new one."""
    promoted = []
    for _ in range(3):
        new_router(registered)
        result = run(registered, *NOT_WORSE)
        tags = client_of(registered).get_model_version(MODEL, result.version).tags
        role = "champion" if result.version == "2" else "reference"
        assert result.reason.startswith(f"not worse than the {role} by 0.02 or more on")
        promoted.append((result.version, result.champion, tags["reference"]))
    assert promoted == [("2", True, "1"), ("3", True, "1"), ("4", True, "1")]
    assert not run(registered, "promote.rule=better").reason.startswith("not worse")
    calibrate.run(registered, load_params(registered.params, ["budget=40%"]))
    record_inputs(registered)
    assert run(registered, "budget=40%", *NOT_WORSE).champion
    assert client_of(registered).get_model_version(MODEL, "5").tags["reference"] == "5"
    assert aliases(registered) == {CHAMPION: "5", CHALLENGER: "5"}


def test_a_missing_reference_is_reported_with_the_command_that_repairs_it(
    registered: Workspace,
) -> None:
    new_router(registered)
    run(registered, *NOT_WORSE)
    client_of(registered).delete_model_version(MODEL, "1")
    new_router(registered)
    blocked = run(registered, *NOT_WORSE)
    assert (blocked.version, blocked.champion, blocked.blocked) == ("3", False, True)
    assert "the reference, cannot be found. Restore them, or run in" in blocked.reason
    assert "delete_model_version_tag('router', '2', 'reference')" in blocked.reason
    assert aliases(registered) == {CHAMPION: "2", CHALLENGER: "3"}
    client_of(registered).delete_model_version_tag(MODEL, "2", "reference")
    result = run(registered, *NOT_WORSE)
    assert result.champion
    tags = client_of(registered).get_model_version(MODEL, result.version).tags
    assert tags["reference"] == "2"


def test_a_champion_that_cannot_be_read_is_replaced_by_force_only(
    registered: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its ``router.json`` is damaged, its code is that of another version, its files are lost."""
    monkeypatch.setenv("CATIMAGE_STATE_URL", f"sqlite:///{tmp_path}/state.db")
    monkeypatch.setattr(registry, "build_wheel", lambda folder: registered.params)
    new_router(registered, lam=0.0)
    (router,) = (registered.root / "mlruns").rglob("artifacts/router")
    model, reasons = router.parents[1], []
    for damage in ("{", "import catimage.of_another_version", None):
        if damage is None:
            shutil.rmtree(model)
        else:
            file = router / "router.json" if damage == "{" else model / "pyfunc_model.py"
            file.write_text(damage)
        result = run(registered)
        assert (result.version, result.champion, result.blocked) == ("2", False, True)
        assert "so it is not replaced automatically: " in result.reason
        reasons.append(result.reason)
    assert "router.json: the file is damaged" in reasons[0] and "cannot be found" in reasons[2]
    assert aliases(registered) == {CHAMPION: "1", CHALLENGER: "2"}
    params = load_params(registered.params)
    with pytest.raises(InputError, match=r"does not promote it .*champion cannot be compared"):
        promote(registered, params, None)
    summary = promote(registered, params, None, force="the champion is lost")
    assert summary.reason.startswith("forced (the champion is lost); the gate: the champion cannot")
    assert aliases(registered) == {CHAMPION: "2", CHALLENGER: "2"}


def test_a_workspace_without_gate_prompts_registers_a_challenger_and_says_what_to_change(
    registered: Workspace,
) -> None:
    prompts = pd.read_parquet(registered.prompts)
    prompts["split"] = prompts["split"].replace("gate", "train")
    write_table(prompts, registered.prompts, PROMPTS)
    new_router(registered)
    result = run(registered)
    assert (result.version, result.champion) == ("2", False)
    assert "0 prompts of the split gate" in result.reason
    assert "increase gate_share (of sample, or of import), and run the stages" in result.reason
    assert aliases(registered) == {CHAMPION: "1", CHALLENGER: "2"}


def test_the_version_is_that_of_this_process_and_not_the_newest(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    log_model = mlflow.pyfunc.log_model

    def interrupted(**arguments: Any) -> Any:
        info = log_model(**arguments)
        log_model(**arguments)  # another process registers its router
        return info

    monkeypatch.setattr(mlflow.pyfunc, "log_model", interrupted)
    result = run(workspace)
    assert (result.version, result.champion) == ("1", True)
    assert aliases(workspace) == {CHAMPION: "1", CHALLENGER: "1"}
    run_id = client_of(workspace).get_model_version(MODEL, "1").run_id
    assert result.run_id == run_id


def test_a_champion_that_another_process_promotes_meanwhile_is_compared_with(
    registered: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_router(registered)
    assert not run(registered).champion
    new_router(registered)

    def interrupted(client: Any, version: str) -> None:
        set_challenger(client, version)
        set_champion(client, "2", "1")

    monkeypatch.setattr(registry, "set_challenger", interrupted)
    calls = []
    decide = registry.decide
    monkeypatch.setattr(registry, "decide", lambda *a: (calls.append(a[1]), decide(*a))[1])
    run(registered)
    assert calls == [None, "3"]


def test_an_alias_that_another_process_moves_meanwhile_is_reported(
    registered: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    new_router(registered)
    set_alias = MlflowClient.set_registered_model_alias

    def interrupted(client: MlflowClient, name: str, alias: str, version: str) -> None:
        set_alias(client, name, alias, version)
        set_alias(client, name, alias, "1")

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", interrupted)
    with pytest.raises(
        InputError, match="alias 'challenger' of 'router' has been moved to version"
    ):
        run(registered)


def test_a_router_that_was_registered_before_keeps_its_version(registered: Workspace) -> None:
    first = {p: p.read_bytes() for p in registered.router.rglob("*") if p.is_file()}
    new_router(registered)
    assert run(registered).version == "2"
    for path, content in first.items():
        Path(path).write_bytes(content)
    record_inputs(registered)
    result = run(registered)
    assert (result.version, result.reason) == ("1", "this version is already the champion")
    assert aliases(registered) == {CHAMPION: "1", CHALLENGER: "1"}
