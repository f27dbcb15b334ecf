"""Registration of real routers in MLflow with a SQLite database in a temporary folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from catimage.errors import InputError
from catimage.params import Params, load_params
from catimage.router import Router
from catimage.stages import calibrate, evaluate
from catimage.tracking.registry import RegistrationResult, register
from catimage.workspace import Workspace
from tests.trained_workspace import train_workspace

PROMPT = "crowded amber basil number 4"


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, Params]]:
    """An evaluated workspace, and its parameters."""
    remote = os.environ.pop("MLFLOW_TRACKING_URI", None)
    workspace, params = train_workspace(tmp_path_factory.mktemp("registry"))
    evaluate.run(workspace, params)
    (workspace.root / "dvc.lock").write_text(
        "stages:\n  train:\n    outs:\n    - {path: models/estimators, md5: abc.dir}\n"
    )
    yield workspace, params
    if remote:
        os.environ["MLFLOW_TRACKING_URI"] = remote


@pytest.fixture(scope="module")
def first(evaluated: tuple[Workspace, Params]) -> RegistrationResult:
    """The first registration of the workspace."""
    return register(*evaluated)


def client_of(workspace: Workspace) -> object:
    import mlflow

    return mlflow.MlflowClient(f"sqlite:///{workspace.root / 'mlflow.db'}")


def test_the_first_version_is_champion_and_its_run_records_its_origin(
    evaluated: tuple[Workspace, Params], first: RegistrationResult
) -> None:
    workspace, _ = evaluated
    run = client_of(workspace).get_run(first.run_id)
    assert (first.version, first.champion) == ("1", True)
    assert run.data.params["train.estimators"] == '["ridge"]'
    assert run.data.params["budget"] == "60%"
    assert run.data.tags["md5.models/estimators"] == "abc.dir"
    assert len(run.data.tags["md5.params.yaml"]) == 32
    metrics, logged = json.loads((workspace.reports / "metrics.json").read_text()), run.data.metrics
    quality = metrics["budget"]["realised_quality"]
    assert logged["budget.realised_quality"] == pytest.approx(quality)
    gain = metrics["methods"]["ridge"]["selected"]["max_quality"]["gain"]
    assert logged["ridge.selected.max_quality.gain"] == pytest.approx(gain)
    artifacts = {a.path for a in client_of(workspace).list_artifacts(first.run_id)}
    assert {"metrics.json", "report.html", "dvc.lock"} <= artifacts


def test_the_champion_can_be_loaded_and_routes_like_the_router(
    evaluated: tuple[Workspace, Params], first: RegistrationResult
) -> None:
    import mlflow

    router = Router.load(evaluated[0].router)
    model = mlflow.pyfunc.load_model("models:/router@champion")
    prompts = pd.DataFrame({"prompt": [PROMPT]})
    for settings in ({}, {"budget": 4.0}, {"budget": 1.01}, {"lambda": 0.0}, {"lambda": 10.0}):
        row = model.predict(prompts, params=settings).iloc[0]
        expected = router.route(
            [PROMPT], lam=settings.get("lambda"), budget=settings.get("budget")
        )[0]
        assert row["candidate"] == expected.candidate
        assert row["cost"] == expected.cost
        assert row["lambda"] == expected.lam
        assert row["predicted_quality"] == pytest.approx(expected.predicted_quality)
    for budget, candidate in ((1.01, "mini-1"), (4.0, "mini-4")):
        assert model.predict(prompts, params={"budget": budget})["candidate"].item() == candidate


def test_no_pickle_is_stored(
    evaluated: tuple[Workspace, Params], first: RegistrationResult
) -> None:
    files = evaluated[0].root / "mlruns"
    names = {p.name for p in files.rglob("*") if p.is_file()}
    assert "pyfunc_model.py" in names
    assert "estimator.skops" in names
    assert not [n for n in names if n.endswith((".pkl", ".pickle", ".joblib"))]
    requirements = next(files.rglob("requirements.txt")).read_text()
    assert "scikit-learn==" in requirements
    assert "catimage==" in requirements


def test_an_unchanged_router_gets_no_new_version(
    evaluated: tuple[Workspace, Params], first: RegistrationResult
) -> None:
    second = register(*evaluated)
    assert (second.version, second.run_id, second.champion) == ("1", first.run_id, True)


def test_a_worse_router_remains_challenger_and_a_better_one_becomes_champion(
    evaluated: tuple[Workspace, Params], first: RegistrationResult
) -> None:
    workspace, params = evaluated
    good_files = {p: p.read_bytes() for p in workspace.router.rglob("*") if p.is_file()}
    document = json.loads((workspace.router / "router.json").read_text())
    # With the names in reverse order, the router selects the wrong candidates.
    reversed_names = document | {"candidates": document["candidates"][::-1]}
    (workspace.router / "router.json").write_text(json.dumps(reversed_names))
    worse = register(workspace, params)
    assert (worse.version, worse.champion) == ("2", False)
    assert worse.reason.startswith("worse")
    aliases = client_of(workspace).get_registered_model("router").aliases
    assert {k: str(v) for k, v in aliases.items()} == {"champion": "1", "challenger": "2"}
    for path, content in good_files.items():
        path.write_bytes(content)
    cheaper = load_params(workspace.params, ["budget=40%"])
    calibrate.run(workspace, cheaper)
    better = register(workspace, cheaper)
    assert (better.version, better.champion) == ("3", True)
    assert "test prompts" in better.reason


def test_a_champion_in_another_format_is_replaced(
    evaluated: tuple[Workspace, Params], first: RegistrationResult
) -> None:
    workspace, _ = evaluated
    for path in workspace.root.rglob("router.json"):
        if path.parent != workspace.router:
            document = json.loads(path.read_text())
            del document["format"]
            path.write_text(json.dumps(document))
    params = load_params(workspace.params, ["budget=50%"])
    calibrate.run(workspace, params)
    registered = register(workspace, params)
    assert registered.champion
    assert "the champion cannot be compared" in registered.reason
    assert "version of CATImage" in registered.reason


def test_a_workspace_without_a_router_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no router found\. Run 'catimage calibrate'"):
        register(Workspace(tmp_path), Params())
