"""A change of the champion during load: no request fails, and the new router decides."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
import yaml

from catimage.common.hashing import folder_digest
from catimage.params import load_params
from catimage.serving.client.client import Client
from catimage.serving.rollout.archive import pack
from catimage.serving.state.store import State
from catimage.stages import calibrate
from catimage.workspace import Workspace
from tests.system.background import Background
from tests.system.running_service import PROMPT, serve

pytestmark = pytest.mark.system


def other_router(packaged: Path, folder: Path) -> Path:
    """Calibrate the router of the workspace for another budget; return its folder."""
    for name in ("data", "models", "reports", "pools"):
        shutil.copytree(packaged / name, folder / name)
    settings = yaml.safe_load((packaged / "params.yaml").read_text())
    (folder / "params.yaml").write_text(yaml.safe_dump(settings | {"budget": "95%"}))
    workspace = Workspace(folder)
    calibrate.run(workspace, load_params(workspace.params))
    return workspace.router


def test_a_hot_change_of_the_champion_fails_no_request(packaged: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    routers = {
        "first": Workspace(packaged).router,
        "second": other_router(packaged, tmp_path / "other"),
    }
    with serve(packaged, tmp_path / "home") as service, Client(service.url) as client:
        state = State.open(service.env["CATIMAGE_STATE_URL"])
        background = Background(service.url, 6)
        for version in ("first", "second", "first", "second"):
            folder = routers[version]
            state.rollouts.publish("champion", version, folder_digest(folder), pack(folder))
            _wait_for_version(client, version)
        load = background.result()
        assert set(load.statuses) == {200}, (load.statuses, service.log()[-3000:])
        used = {outcome.answer["catimage"]["router_version"] for outcome in load.outcomes}
        assert used >= {"first", "second"}
        assert client.router()["calibrated_budget"] == pytest.approx(0.95 * 4.0)
        assert {replica.digest for replica in state.replicas.live()} == {
            folder_digest(routers["second"])
        }


def _wait_for_version(client: Client, version: str) -> None:
    end = time.monotonic() + 20
    while client.route(PROMPT).document["router_version"] != version:
        assert time.monotonic() < end, f"version {version} is not used"
        time.sleep(0.2)
