"""Registration of real routers in MLflow with a SQLite database in a temporary folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from sysconfig import get_path

import pandas as pd
import pytest

from catimage.errors import InputError
from catimage.params import Params, load_params
from catimage.router import Router
from catimage.stages import calibrate
from catimage.tracking.registry import RegistrationResult, register
from catimage.workspace import Workspace
from tests.provenance import record_inputs

PROMPT = "crowded amber basil number 4"


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
        row = model.predict(prompts, params={**settings, "seed": 1}).iloc[0]
        expected = router.route(
            [PROMPT], lam=settings.get("lambda"), budget=settings.get("budget"), seed=1
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


SCRIPT = """
import json, sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
import catimage, mlflow, pandas
model = mlflow.pyfunc.load_model(sys.argv[3])
row = model.predict(pandas.DataFrame({"prompt": [sys.argv[4]]}), params={"seed": 1}).iloc[0]
print(json.dumps([catimage.__file__, row["candidate"], row["predicted_quality"]]))
"""
"""Without the options -I and -S, Python would find the checkout of an editable installation."""


def test_the_requirements_of_the_model_are_the_wheel_that_it_contains_and_installed_versions(
    evaluated: tuple[Workspace, Params], first: RegistrationResult
) -> None:
    file = next((evaluated[0].root / "mlruns").rglob("requirements.txt"))
    lines = file.read_text().splitlines()
    assert (file.parent / lines[0]).is_file()
    pins = {f"{name}=={version(name).partition('+')[0]}" for name in ("scikit-learn", "torch")}
    assert pins | {f"mlflow=={version('mlflow')}"} < set(lines)
    assert not [line for line in lines if line.startswith("catimage")]


@pytest.mark.system
def test_the_model_runs_on_the_wheel_that_it_contains(
    evaluated: tuple[Workspace, Params], first: RegistrationResult, tmp_path: Path
) -> None:
    """MLflow installs the requirements in the folder of the model. The checkout, in which CATImage
    has a version that no index has, is not needed.
    """
    stored = next((evaluated[0].root / "mlruns").rglob("requirements.txt")).parent
    model = shutil.copytree(stored, tmp_path / "model")
    lines = (model / "requirements.txt").read_text().splitlines()
    options = ["--quiet", "--no-index", "--no-deps", "--target", str(tmp_path / "installed")]
    pip = [sys.executable, "-m", "pip", "install", *options]
    subprocess.run([*pip, lines[0]], cwd=model, check=True)
    paths = [str(tmp_path / "installed"), get_path("purelib"), str(model), PROMPT]
    output = subprocess.run(
        [sys.executable, "-I", "-S", "-c", SCRIPT, *paths],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    code, candidate, quality = json.loads(output.splitlines()[-1])
    expected = Router.load(evaluated[0].router).route([PROMPT], seed=1)[0]
    assert Path(code).is_relative_to(tmp_path / "installed")
    assert candidate == expected.candidate
    assert quality == pytest.approx(expected.predicted_quality)


def test_an_unchanged_router_gets_no_new_version(
    evaluated: tuple[Workspace, Params], first: RegistrationResult
) -> None:
    second = register(*evaluated)
    assert (second.version, second.run_id, second.champion) == ("1", first.run_id, True)


def test_a_worse_router_remains_challenger_and_one_for_a_new_budget_becomes_champion(
    evaluated: tuple[Workspace, Params], first: RegistrationResult
) -> None:
    workspace, params = evaluated
    good_files = {p: p.read_bytes() for p in workspace.router.rglob("*") if p.is_file()}
    document = json.loads((workspace.router / "router.json").read_text())
    # With the names in reverse order, the router selects the wrong candidates.
    reversed_names = document | {"candidates": document["candidates"][::-1]}
    (workspace.router / "router.json").write_text(json.dumps(reversed_names))
    record_inputs(workspace)
    worse = register(workspace, params)
    assert (worse.version, worse.champion) == ("2", False)
    assert worse.reason.startswith("not significantly better than the champion on 32 gate prompts")
    aliases = client_of(workspace).get_registered_model("router").aliases
    assert {k: str(v) for k, v in aliases.items()} == {"champion": "1", "challenger": "2"}
    for path, content in good_files.items():
        path.write_bytes(content)
    cheaper = load_params(workspace.params, ["budget=40%"])
    calibrate.run(workspace, cheaper)
    record_inputs(workspace)
    better = register(workspace, cheaper)
    assert (better.version, better.champion) == ("3", True)
    assert "does not meet the new settings" in better.reason and "budget 1.6" in better.reason


def test_a_champion_in_another_format_is_not_replaced_automatically(
    evaluated: tuple[Workspace, Params], first: RegistrationResult
) -> None:
    workspace, _ = evaluated
    champion = client_of(workspace).get_registered_model("router").aliases["champion"]
    for path in workspace.root.rglob("router.json"):
        if path.parent != workspace.router:
            document = json.loads(path.read_text())
            del document["format"]
            path.write_text(json.dumps(document))
    params = load_params(workspace.params, ["budget=50%"])
    calibrate.run(workspace, params)
    record_inputs(workspace)
    registered = register(workspace, params)
    assert (registered.champion, registered.blocked) == (False, True)
    assert registered.reason.startswith(
        "the champion cannot be compared, so it is not replaced automatically: "
    )
    assert "version of CATImage" in registered.reason
    assert "run 'catimage promote --challenger --force REASON'" in registered.reason
    aliases = client_of(workspace).get_registered_model("router").aliases
    assert {k: str(v) for k, v in aliases.items()} == {
        "champion": str(champion),
        "challenger": registered.version,
    }
    tags = client_of(workspace).get_model_version("router", registered.version).tags
    assert tags["gate"] == registered.reason


def test_a_workspace_without_a_router_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no router found\. Run 'catimage calibrate'"):
        register(Workspace(tmp_path), Params())
