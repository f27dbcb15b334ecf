"""The gate of the decision log: its rows are checked before they become data."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from catimage.commands.intake import log_folder
from catimage.data.decisions import read_decisions
from catimage.params import Params
from catimage.workspace import Workspace


def check_log(workspace: Workspace, params: Params, now: datetime | None = None) -> int:
    """Check the rows that the next intake reads, with Great Expectations.

    Args:
        workspace: the workspace; the pages about the rows are in ``.catimage/decision_docs``.
        params: its parameters, with a source of kind ``decisions``.
        now: the end of the time window; by default, the present time.

    Returns:
        The number of rows; 0 without a source of kind ``decisions``.

    Raises:
        InputError: rows do not meet an expectation, or a file is damaged.
    """
    from catimage.validation.decisions import check_decisions

    source = params.sample.decisions if params.imported is None else None
    if source is None:
        return 0
    since = (now or datetime.now(UTC)) - timedelta(days=source.days)
    rows = read_decisions(log_folder(workspace, params, source), since)
    check_decisions(rows, workspace.root / ".catimage" / "decision_docs")
    return len(rows)
