"""``catimage gc``: remove what no champion, challenger, history, service or workspace needs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from catimage.commands.gc_dvc import cache_garbage, dvc_repository
from catimage.commands.keys import open_state
from catimage.common.files import read_json
from catimage.common.garbage import Garbage, size_of
from catimage.common.hashing import folder_digest
from catimage.data.shards.lock import write_lock
from catimage.data.shards.manifest import MANIFEST_NAME, read_manifest, stale_files
from catimage.params import Params
from catimage.serving.bento.garbage import bento_garbage
from catimage.serving.settings import load_environment
from catimage.serving.state.database import parsed
from catimage.serving.state.store import State
from catimage.tracking.client import connection
from catimage.tracking.garbage import Needed, registry_garbage
from catimage.workspace import Workspace


def collect(workspace: Workspace, params: Params, apply: bool = False) -> list[Garbage]:
    """Return what can be removed by the section ``gc`` of the parameters, and remove it.

    Locks keep stages, DVC and registrations from writing at the same time. Nothing is removed
    unless everything could be listed. The command can be repeated if it was interrupted.

    Args:
        workspace: the workspace.
        params: its parameters.
        apply: whether the things are removed, and not only listed.

    Raises:
        InputError: another process writes an output, or the registry cannot be used.
        ServingError: the database of the service cannot be used.
    """
    policy, before = params.gc, time.time() - params.gc.days * 86_400
    with ExitStack() as stack:
        state = stack.enter_context(_state(workspace, params))
        served = _served(workspace, state)
        found = list(_shards(workspace, before, apply, stack))
        runs, needed = _runs(workspace, params, before, served, stack)
        repository = stack.enter_context(dvc_repository(workspace, apply))
        if repository is not None:
            found += cache_garbage(repository, policy.commits, before, needed.hashes)
        found += runs
        found += _bentos(workspace, params, before, needed, served)
        if state is not None:
            found += expired_rows(state)
        for item in found if apply else ():
            item.remove()
    return found


@contextmanager
def _state(workspace: Workspace, params: Params) -> Iterator[State | None]:
    """Open the state of the service; None if it has no database yet."""
    address = parsed(load_environment().state(params.package.name))
    local = address.get_backend_name() == "sqlite"
    if local and not Path(address.database or "").exists():
        yield None
        return
    with open_state(workspace.root) as state:
        yield state


def _served(workspace: Workspace, state: State | None) -> set[str]:
    """Return the digests of the routers of the service and of the workspace."""
    digests = {folder_digest(workspace.router)} if workspace.router.is_dir() else set()
    if state is not None:
        digests |= {rollout.digest for rollout in state.rollouts.current().values()}
        for replica in state.replicas.live():
            digests |= {replica.digest, replica.challenger_digest}
    return digests - {""}


def _shards(
    workspace: Workspace, before: float, apply: bool, stack: ExitStack
) -> Iterator[Garbage]:
    """Yield the shards that the manifest does not list."""
    folder = workspace.images
    if not (folder / MANIFEST_NAME).exists():
        return
    if apply:
        stack.enter_context(write_lock(folder))
    for path in stale_files(folder, read_manifest(folder)):
        if path.stat().st_mtime < before:
            yield Garbage("image shards", path.name, size_of(path), path.unlink)


def _runs(
    workspace: Workspace, params: Params, before: float, served: set[str], stack: ExitStack
) -> tuple[list[Garbage], Needed]:
    """Return the runs of MLflow that can be removed, and what the others need."""
    if find_spec("mlflow") is None:
        return [], Needed()
    client = stack.enter_context(connection(workspace, "gc"))
    return registry_garbage(client, params.gc.runs, before, served)


def _bentos(
    workspace: Workspace, params: Params, before: float, needed: Needed, served: set[str]
) -> list[Garbage]:
    """Return the Bentos of the store that can be removed."""
    if find_spec("bentoml") is None:
        return []
    path, tags = workspace.dist / "bento.json", set(needed.bentos)
    if path.exists():
        tags.add(str(read_json(path, "package").get("tag")))
    digests = needed.digests | served
    return bento_garbage(params.package.name, params.gc.bentos, before, tags, digests)


def expired_rows(state: State) -> list[Garbage]:
    """Return the expired images and the old jobs of the service."""
    return [
        Garbage(f"expired {kind} of the service", "", size, state.purge, number)
        for kind, (number, size) in state.expired().items()
        if number
    ]


def totals(found: Iterable[Garbage]) -> list[dict[str, Any]]:
    """Return the number and the total size by kind, in the order of the first of each kind."""
    rows: dict[str, dict[str, Any]] = {}
    for item in found:
        row = rows.setdefault(item.kind, {"kind": item.kind, "number": 0, "bytes": 0})
        row["number"] += item.number
        row["bytes"] += item.size
    return list(rows.values())
