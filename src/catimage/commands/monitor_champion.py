"""The router whose decisions ``catimage monitor`` checks: by default the champion of the registry.

``models/router`` of the workspace is another router after the gate has refused a challenger, and
after a rollback.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from catimage.commands.monitor_state import MonitorState
from catimage.common.hashing import folder_digest
from catimage.errors import InputError
from catimage.router import Router
from catimage.serving.dispatch.loading import DIGITS
from catimage.tracking.client import CHAMPION, connection
from catimage.tracking.router_files import download_router, registered_digest
from catimage.tracking.versions import version_with_alias
from catimage.workspace import Workspace


@dataclass(frozen=True)
class ServedRouter:
    """The router whose decisions are checked.

    Attributes:
        digest: digest of its folder.
        version: its name in the decision log; empty if there is no champion. Then all rows of the
            log are checked.
        problem: why the registry cannot be used; empty if it can.
    """

    digest: str
    version: str = ""
    problem: str = ""

    def decided(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Select the rows of the decision log that the router decided.

        The name of a router that was in the Bento is the start of its digest.
        """
        names = [self.version, self.digest[:DIGITS]]
        return rows[rows["router_version"].isin(names)] if self.version else rows

    def remark(self, rows: pd.DataFrame) -> str:
        """Return sentences on rows that do not count and on the registry; often empty."""
        others, text = len(rows) - len(self.decided(rows)), ""
        if others:
            text = f" {others:,} requests that router {self.version} did not decide do not count."
        if self.problem:
            known = f"router {self.version}" if self.version else "models/router"
            text += f" Compared with {known}, because the champion is unknown: {self.problem}"
        return text


def served_router(workspace: Workspace, rows: pd.DataFrame, state: MonitorState) -> ServedRouter:
    """Return the champion, or the router of the workspace if there is none.

    If the registry cannot be used, it is the router of the last run. If the champion decided no
    row, but the router of the workspace did, it is that one.

    Args:
        workspace: the workspace of the registry.
        rows: new rows of the decision log.
        state: the state of the last run; the router is written to it.
    """
    own = ServedRouter(folder_digest(workspace.router))
    served = _champion(workspace, own, state)
    local = ServedRouter(own.digest, own.digest[:DIGITS])
    if served.decided(rows).empty and not local.decided(rows).empty:
        served = local
    state.served = {"digest": served.digest, "version": served.version}
    return served


def _champion(workspace: Workspace, own: ServedRouter, state: MonitorState) -> ServedRouter:
    if "MLFLOW_TRACKING_URI" not in os.environ and not (workspace.root / "mlflow.db").exists():
        return own
    try:
        with connection(workspace, "monitor") as client:
            version = version_with_alias(client, CHAMPION)
            if version is None:
                return own
            return ServedRouter(registered_digest(client, version), version)
    except (InputError, OSError) as error:
        last = state.served or asdict(own)
        return ServedRouter(last["digest"], last["version"], str(error))


def load_served(workspace: Workspace, served: ServedRouter) -> Router:
    """Load the router, from the registry if it is not that of the workspace.

    Raises:
        InputError: its files are missing, or the registry cannot be used.
    """
    if served.digest == folder_digest(workspace.router):
        return Router.load(workspace.router)
    with TemporaryDirectory() as folder, connection(workspace, "monitor") as client:
        return Router.load(download_router(client, served.version, Path(folder)))
