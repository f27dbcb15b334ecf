"""Trained routers that tests publish."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from catimage.common.hashing import folder_digest
from catimage.serving.rollout.archive import pack
from catimage.serving.state.rollouts import Role, Rollout
from catimage.serving.state.store import State


def changed_router(folder: Path, target: Path, **values: object) -> Path:
    """Copy the folder of a router with other values in ``router.json``; return the copy."""
    shutil.copytree(folder, target)
    path = target / "router.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return target


def publish(
    state: State, role: Role, version: str, folder: Path, shadow: bool = False, share: float = 0.0
) -> Rollout:
    """Publish the router in a folder."""
    digest, archive = folder_digest(folder), pack(folder)
    return state.rollouts.publish(role, version, digest, archive, shadow, share)
