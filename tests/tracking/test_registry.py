"""MLflow as it is: sqlite in a temporary folder, real routers, real artifacts."""

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
from catimage.tracking import registry
from catimage.workspace import Workspace
from tests.trained_workspace import train_workspace

PROMPT = "crowded amber basil number 4"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, Params]]:
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
def first(built: tuple[Workspace, Params]) -> registry.Registered:
    return registry.register(*built)


def client_of(workspace: Workspace) -> object:
    import mlflow

    return mlflow.MlflowClient(f"sqlite:///{workspace.root / 'mlflow.db'}")


def test_the_first_version_is_champion_and_its_run_says_where_it_comes_from(
    built: tuple[Workspace, Params], first: registry.Registered
) -> None:
    workspace, _ = built
    run = client_of(workspace).get_run(first.run_id)
    assert (first.version, first.champion) == ("1", True)
    assert run.data.params["train.estimators"] == '["ridge"]' and run.data.params["budget"] == "60%"
    assert (
        run.data.tags["md5.models/estimators"] == "abc.dir"
        and len(run.data.tags["md5.params.yaml"]) == 32
    )
    metrics = json.loads((workspace.reports / "metrics.json").read_text())
    assert run.data.metrics["budget.realised_quality"] == pytest.approx(
        metrics["budget"]["realised_quality"]
    )
    assert run.data.metrics["ridge.selected.max_quality.gain"] == pytest.approx(
        metrics["methods"]["ridge"]["selected"]["max_quality"]["gain"]
    )
    artifacts = {a.path for a in client_of(workspace).list_artifacts(first.run_id)}
    assert {"metrics.json", "report.html", "dvc.lock"} <= artifacts


def test_the_champion_loads_and_routes(
    built: tuple[Workspace, Params], first: registry.Registered
) -> None:
    import mlflow

    router = Router.load(built[0].router)
    model = mlflow.pyfunc.load_model("models:/router@champion")
    for given in ({}, {"budget": 4.0}, {"budget": 1.01}, {"lambda": 0.0}, {"lambda": 10.0}):
        row = model.predict(pd.DataFrame({"prompt": [PROMPT]}), params=given).iloc[0]
        expected = router.route([PROMPT], lam=given.get("lambda"), budget=given.get("budget"))[0]
        assert (row["candidate"], row["cost"], row["lambda"]) == (
            expected.candidate,
            expected.cost,
            expected.lam,
        )
        assert row["predicted_quality"] == pytest.approx(expected.predicted_quality)
    assert (
        model.predict(pd.DataFrame({"prompt": [PROMPT]}), params={"budget": 1.01})[
            "candidate"
        ].item()
        == "mini-1"
    )
    assert (
        model.predict(pd.DataFrame({"prompt": [PROMPT]}), params={"budget": 4.0})[
            "candidate"
        ].item()
        == "mini-4"
    )


def test_no_pickle_is_stored(built: tuple[Workspace, Params], first: registry.Registered) -> None:
    names = {p.name for p in (built[0].root / "mlruns").rglob("*") if p.is_file()}
    assert "pyfunc_model.py" in names and "estimator.skops" in names
    assert not [n for n in names if n.endswith((".pkl", ".pickle", ".joblib"))]
    required = next((built[0].root / "mlruns").rglob("requirements.txt")).read_text()
    assert "scikit-learn==" in required and "catimage==" in required


def test_the_same_router_makes_no_new_version(
    built: tuple[Workspace, Params], first: registry.Registered
) -> None:
    again = registry.register(*built)
    assert (again.version, again.run_id, again.champion) == ("1", first.run_id, True)


def test_a_worse_router_stays_challenger_and_a_better_one_moves(
    built: tuple[Workspace, Params], first: registry.Registered
) -> None:
    workspace, params = built
    good = {p: p.read_bytes() for p in workspace.router.rglob("*") if p.is_file()}
    document = json.loads((workspace.router / "router.json").read_text())
    swapped = document | {"candidates": document["candidates"][::-1]}
    (workspace.router / "router.json").write_text(json.dumps(swapped))
    worse = registry.register(workspace, params)
    assert (worse.version, worse.champion) == ("2", False) and worse.reason.startswith("worse")
    aliases = client_of(workspace).get_registered_model("router").aliases
    assert {k: str(v) for k, v in aliases.items()} == {"champion": "1", "challenger": "2"}
    for path, content in good.items():
        path.write_bytes(content)
    cheaper = load_params(workspace.params, ["budget=40%"])
    calibrate.run(workspace, cheaper)
    better = registry.register(workspace, cheaper)
    assert (better.version, better.champion) == ("3", True) and "test prompts" in better.reason


def test_a_champion_that_another_version_wrote_is_replaced(
    built: tuple[Workspace, Params], first: registry.Registered
) -> None:
    workspace, _ = built
    for path in workspace.root.rglob("router.json"):
        if path.parent != workspace.router:
            document = json.loads(path.read_text())
            path.write_text(
                json.dumps({key: value for key, value in document.items() if key != "format"})
            )
    params = load_params(workspace.params, ["budget=50%"])
    calibrate.run(workspace, params)
    registered = registry.register(workspace, params)
    assert registered.champion and "another version of CATImage wrote this router" in registered.reason


def test_nothing_to_register_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run 'catimage calibrate' first"):
        registry.register(Workspace(tmp_path), Params())


def test_flat_and_figures() -> None:
    assert registry.flat({"a": {"b": 1, "c": [1, 2]}, "d": None}) == {"a.b": 1, "a.c": "[1, 2]"}
    method = {
        "mean_curve_quality": 0.5,
        "max_quality": 0.6,
        "selected": {"match": {"cost_ratio": None, "gain": 0.1, "interval": [0, 1]}},
    }
    document = {
        "budget": {"estimator": "knn", "target": 2},
        "best_single": {"cost": 1.0},
        "oracle_quality": 0.7,
    }
    found = registry.figures(document | {"methods": {"knn": method, "fixed": method}})
    assert found["knn.selected.match.gain"] == 0.1 and found["budget.target"] == 2.0
    assert not [k for k in found if k.startswith("fixed") or "interval" in k or "cost_ratio" in k]
