"""Two processes that register routers in one registry at the same time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from catimage.stages import evaluate
from catimage.tracking.champions import champion_history
from catimage.tracking.client import CHAMPION, MODEL
from catimage.workspace import Workspace
from tests.provenance import record_inputs
from tests.system.mlflow_server import MlflowServer
from tests.trained_workspace import train_workspace

ORDERS = {"good": [0, 1, 2], "medium": [1, 0, 2], "bad": [2, 1, 0]}
"""Orders of the names of the candidates: a router with another order selects wrong candidates."""
REGISTER = """
import sys, time
from pathlib import Path
from catimage.params import load_params
from catimage.tracking.registry import register
from catimage.workspace import Workspace
root = Path(sys.argv[1])
params = load_params(root / "params.yaml")
if len(sys.argv) > 2:
    Path(sys.argv[2], root.name).touch()
    end = time.monotonic() + 120
    while len(list(Path(sys.argv[2]).iterdir())) < 2 and time.monotonic() < end:
        time.sleep(0.01)
print(register(Workspace(root), params))
"""


@pytest.fixture(scope="module")
def routers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Workspaces with routers of three qualities."""
    workspace, params = train_workspace(tmp_path_factory.mktemp("origin"))
    evaluate.run(workspace, params)
    folder, found = tmp_path_factory.mktemp("routers"), {}
    for name, order in ORDERS.items():
        root = Path(shutil.copytree(workspace.root, folder / name))
        path = root / "models" / "router" / "router.json"
        document = json.loads(path.read_text())
        document["candidates"] = [document["candidates"][i] for i in order]
        path.write_text(json.dumps(document))
        record_inputs(Workspace(root))
        found[name] = root
    return found


def start(root: Path, registry: str, *barrier: str) -> subprocess.Popen[str]:
    """Start the registration of a workspace in a registry."""
    return subprocess.Popen(
        [sys.executable, "-c", REGISTER, str(root), *barrier],
        cwd=root.parent,
        env={**os.environ, "MLFLOW_TRACKING_URI": registry},
        stdout=subprocess.PIPE,
        text=True,
    )


def client_of(registry: str) -> Any:
    import mlflow

    return mlflow.MlflowClient(registry)


@pytest.fixture
def registry(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty registry: a SQLite database, or a server with PostgreSQL."""
    if kind == "file":
        return f"sqlite:///{tmp_path / 'mlflow.db'}"
    server: MlflowServer = request.getfixturevalue("mlflow_server")
    server.clear()
    return server.url


@pytest.mark.parametrize(
    ("kind", "head_start"), [("file", "medium"), ("file", "good"), ("server", "medium")]
)
def test_two_concurrent_registrations_leave_the_better_router(
    routers: dict[str, Path], registry: str, tmp_path: Path, head_start: str
) -> None:
    """Both are better than the champion. The one that begins second is compared with the first.

    On a server, nothing but the lock of the registry orders the two.
    """
    first = start(routers["bad"], registry)
    assert first.wait(120) == 0 and "champion=True" in first.communicate()[0]
    barrier = tmp_path / "barrier"
    barrier.mkdir()
    order = [head_start, "good" if head_start == "medium" else "medium"]
    processes = []
    for name in order:
        processes.append(start(routers[name], registry, str(barrier)))
        time.sleep(0.2)
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    by_name = dict(zip(order, outputs, strict=True))
    assert "champion=True" in by_name["good"], by_name
    client = client_of(registry)
    champion = str(client.get_registered_model(MODEL).aliases[CHAMPION])
    assert f"version='{champion}'" in by_name["good"]
    tags = client.get_model_version(MODEL, champion).tags
    assert tags["gate"].startswith("better than the champion on")
    assert champion_history(client)[0] == "1" and champion_history(client)[-1] == champion
