"""What a served image, a Bento or a router was made from, and what was made from a data set."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from catimage.commands.keys import open_state
from catimage.data.decisions import read_decisions
from catimage.errors import InputError, OutageError
from catimage.params import Params
from catimage.serving.dispatch.loading import DIGITS
from catimage.serving.settings import load_environment
from catimage.tracking.client import CHAMPION, connection
from catimage.tracking.origins import Origin, origins_with_name, registered_origins
from catimage.tracking.router_files import download_router
from catimage.tracking.versions import version_with_alias
from catimage.workspace import Workspace

_NAMES = (
    "Give a request id, a version, an alias, the tag of a Bento, or a run, a commit or a digest of"
    " seven characters or more"
)


def lineage(workspace: Workspace, params: Params, name: str | None) -> list[dict[str, Any]]:
    """Return the registered routers that a name belongs to, and what they were made from.

    Args:
        workspace: the workspace of the registry.
        params: its parameters.
        name: a request id of the decision log, the tag of a Bento, a version, an alias, the id of a
            run, or the digest of a router, a git commit, a pool file, ``params.yaml``, ``dvc.lock``
            or an output of a stage. Runs, commits and digests may be shortened to seven characters.
            None: all routers.

    Returns:
        One document per router, oldest first: :class:`~catimage.tracking.origins.Origin`, and
        ``served``: the number of requests in the decision log, the time of the first and the last.

    Raises:
        InputError: no router is registered, the name belongs to none or to several runs, commits
            or digests, or the registry cannot be used.
    """
    if name == "":
        raise InputError(f"NAME: is empty. {_NAMES}, or leave it out.")
    with connection(workspace, "lineage") as client:
        origins = registered_origins(client)
    if not origins:
        raise InputError(
            f"{workspace.root}: no router is registered. Run 'catimage register' first."
        )
    log = _log(params)
    found = origins if name is None else _named(origins, log, name)
    if not found:
        raise InputError(f"{name}: belongs to no registered router. {_NAMES}.")
    return [origin.to_document() | {"served": _served(log, origin)} for origin in found]


def check_served(workspace: Workspace) -> list[str]:
    """Return one sentence per replica of the service that does not serve the champion.

    Empty if all do, or no service runs.

    Raises:
        InputError: the registry or the state of the service cannot be used.
    """
    with connection(workspace, "lineage") as client:
        origins = registered_origins(client)
    champion = next((origin for origin in origins if CHAMPION in origin.aliases), None)
    with open_state(workspace.root) as state:
        replicas = state.replicas.live()
    return [
        f"replica {replica.replica_id}: serves router {replica.version}, and the champion is"
        f" version {champion.version if champion else 'none'}. Run 'catimage promote"
        f" {champion.version if champion else 'VERSION'}', or deploy the Bento of the champion."
        for replica in replicas
        if champion is None or replica.digest != champion.digest
    ]


def check_champion(workspace: Workspace) -> list[str]:
    """Return one sentence if the files of the champion are missing or altered.

    Empty if they are intact, or there is no champion.

    Raises:
        InputError: the registry cannot be used.
        OutageError: the registry or its storage does not respond.
    """
    with TemporaryDirectory() as folder, connection(workspace, "lineage") as client:
        champion = version_with_alias(client, CHAMPION)
        if champion is None:
            return []
        try:
            download_router(client, champion, Path(folder))
        except OutageError:
            raise
        except InputError as error:
            return [str(error)]
    return []


def _log(params: Params) -> pd.DataFrame:
    """Return the request ids, versions and times of the decision log; empty without one."""
    folder = load_environment().decision_log(params.package.name)
    return read_decisions(folder)[["request_id", "router_version", "time"]]


def _named(origins: list[Origin], log: pd.DataFrame, name: str) -> list[Origin]:
    if found := origins_with_name(origins, name):
        return found
    rows = log[log["request_id"] == name]
    return [origin for origin in origins if rows["router_version"].isin(_names(origin)).any()]


def _names(origin: Origin) -> list[str]:
    """Return the names of a router in the decision log.

    The name of a router that was in the Bento is the start of its digest.
    """
    return [origin.version, origin.digest[:DIGITS]]


def _served(log: pd.DataFrame, origin: Origin) -> dict[str, Any]:
    times = log.loc[log["router_version"].isin(_names(origin)), "time"]
    if times.empty:
        return {"requests": 0, "first": None, "last": None}
    first, last = times.min().isoformat(), times.max().isoformat()
    return {"requests": len(times), "first": first, "last": last}
