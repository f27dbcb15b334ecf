"""``catimage forget``: delete a user from the decision log and from ``data/traffic/``."""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from dataclasses import dataclass

from catimage.commands.keys import open_state
from catimage.data.decision_deletion import delete_users
from catimage.data.traffic import forget_users
from catimage.errors import InputError
from catimage.params import Params
from catimage.serving.settings import load_environment
from catimage.serving.telemetry.decision_log import FLUSH_SECONDS, user_hash
from catimage.workspace import Workspace

_HASH = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class ForgetSummary:
    """The rows that were deleted.

    Attributes:
        users: the hashed ids of the users.
        log_rows: the number of rows of the decision log.
        log_files: the number of its files that contained them.
        traffic_rows: the number of prompts and outcomes in ``data/traffic/``.
    """

    users: tuple[str, ...]
    log_rows: int
    log_files: int
    traffic_rows: int


def forget(
    workspace: Workspace,
    params: Params,
    hashes: Collection[str],
    users: Collection[str],
    wait_seconds: float = FLUSH_SECONDS + 1,
) -> ForgetSummary:
    """Delete all rows of users. The service may run meanwhile.

    Rows that a running replica has in memory are written within a few seconds: the decision log is
    searched a second time after that. Requests that the users send later are logged again.

    Args:
        workspace: the workspace of the service.
        params: its parameters.
        hashes: hashed ids, as in the column ``user`` of the decision log.
        users: ids as in the field ``user`` of requests.
        wait_seconds: the time after which a running service has written all rows.

    Raises:
        InputError: a hashed id is invalid, a file is damaged or locked, or no user is given.
        ServingError: the database of the service cannot be used.
    """
    _check_hashes(hashes)
    environment = load_environment()
    folder = environment.decision_log(params.package.name)
    with open_state(workspace.root) as state:
        secret = environment.secret.encode() or state.secret()
        forgotten = sorted({*hashes, *(user_hash(secret, user) for user in users)})
        if not forgotten:
            raise InputError("USER_HASH: missing. Give a hashed id, or a user with --user.")
        log_rows, log_files = delete_users(folder, forgotten)
        if state.replicas.live():
            time.sleep(wait_seconds)
            later = delete_users(folder, forgotten)
            log_rows, log_files = log_rows + later[0], log_files + later[1]
    traffic_rows = forget_users(workspace, forgotten) if workspace.traffic.is_dir() else 0
    return ForgetSummary(tuple(forgotten), log_rows, log_files, traffic_rows)


def _check_hashes(hashes: Collection[str]) -> None:
    """Raise InputError if a text is not a hashed id."""
    for text in hashes:
        if not _HASH.fullmatch(text):
            raise InputError(
                f"USER_HASH: {text!r} is not a hashed id, which has 32 hexadecimal digits. Copy it"
                " from the column user of the decision log, or use --user."
            )
