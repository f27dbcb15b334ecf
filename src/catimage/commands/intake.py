"""``catimage intake``: take new prompts and scored decisions from the decision log.

The command is separate from the stages, because the log changes all the time: a stage that read it
would never be up to date, and would lose prompts when the log deletes them. The stages read what
the command has written to ``data/traffic/`` (:mod:`catimage.data.traffic`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from catimage.common.arrays import Float32
from catimage.data.audits import read_audits
from catimage.data.decisions import read_decisions
from catimage.data.outcomes import logged_outcomes, merged_outcomes
from catimage.data.prompts.logged import LoggedPrompts, logged_prompts
from catimage.data.prompts.novelty import highest_similarity, select_novel
from catimage.data.schema import PROMPTS, read_table
from catimage.data.shards.lock import write_lock
from catimage.data.traffic import OUTCOMES, TRAFFIC_PROMPTS, read_traffic, write_traffic
from catimage.encoders.embeddings import Embeddings
from catimage.encoders.loading import TextEncoder, load_encoder
from catimage.errors import InputError
from catimage.params import Params
from catimage.params.sources import DecisionSource
from catimage.serving.settings import load_environment, load_settings
from catimage.workspace import Workspace

COMPARED_PER_TAKEN = 10
"""The number of prompts that are compared by novelty, the newest ones, per prompt of the limit."""


@dataclass(frozen=True)
class IntakeSummary:
    """The result of an intake.

    Attributes:
        folder: the folder of the decision log.
        since: the time of the oldest requests that were read.
        requests: the number of requests since then.
        prompts: the number of their distinct prompts.
        too_long: prompts that exceed ``sample.max_prompt_length``.
        known: prompts that the workspace has already.
        similar: compared prompts that are too similar to prompts of the workspace or taken ones.
        taken: prompts that were added to ``data/traffic/prompts.parquet``.
        total: the number of prompts in this file.
        outcomes: scored decisions in ``data/traffic/outcomes.parquet``.
        outcomes_left_out: scored decisions that an off-policy estimate cannot use, by reason.
    """

    folder: str
    since: str
    requests: int
    prompts: int
    too_long: int
    known: int
    similar: int
    taken: int
    total: int
    outcomes: int
    outcomes_left_out: dict[str, int]

    def to_document(self) -> dict[str, Any]:
        """Return the values by name, for JSON."""
        return asdict(self)


def run(workspace: Workspace, params: Params, now: datetime | None = None) -> IntakeSummary:
    """Add prompts and scored decisions of the last days to ``data/traffic/``.

    Prompts are only taken if ``sample.sources`` has a source of kind ``decisions``. Scores are
    those of ``data/audits.parquet``, which ``catimage monitor`` writes, and those in the log.

    Args:
        workspace: the workspace.
        params: its parameters.
        now: the end of the time window; by default, the present time.

    Raises:
        InputError: the log has no prompts, a file is damaged, the text encoder is unavailable, or
            another intake is running in this workspace.
    """
    now = now or datetime.now(UTC)
    source = params.sample.decisions if params.imported is None else None
    days = source.days if source else params.serving.log_days
    since, folder = now - timedelta(days=days), log_folder(workspace, params, source)
    with write_lock(workspace.traffic):
        decisions = read_decisions(folder, since)
        taken = _Taken(pd.DataFrame(), LoggedPrompts(pd.DataFrame(), 0))
        if source:
            _check_prompts(decisions, params, folder, since)
            taken = _take(workspace, params, source, decisions, now)
        outcomes, left_out = _take_outcomes(workspace, params, decisions, since)
    total = len(read_traffic(workspace.traffic_prompts, TRAFFIC_PROMPTS))
    return IntakeSummary(
        str(folder),
        since.isoformat(timespec="seconds"),
        len(decisions),
        len(taken.logged.table) + taken.logged.n_too_long,
        taken.logged.n_too_long,
        taken.n_known,
        taken.n_similar,
        len(taken.table),
        total,
        outcomes,
        left_out,
    )


@dataclass(frozen=True)
class _Taken:
    """The prompts that an intake took, and the numbers of those that it did not take."""

    table: pd.DataFrame
    logged: LoggedPrompts
    n_known: int = 0
    n_similar: int = 0


def log_folder(workspace: Workspace, params: Params, source: DecisionSource | None) -> Path:
    """Return the folder of the decision log: that of the source, or that of the service."""
    if source and source.folder:
        return workspace.root / Path(source.folder).expanduser()
    return load_environment().decision_log(params.package.name)


def _check_prompts(decisions: pd.DataFrame, params: Params, folder: Path, since: datetime) -> None:
    """Check that the log has prompts, unless prompts are logged and there were no requests."""
    if decisions["prompt"].notna().any():
        return
    if len(decisions) or not load_settings(params.serving).log_prompts:
        raise InputError(
            f"{folder}: the decision log has no prompts since {since:%Y-%m-%d %H:%M} UTC"
            f" ({len(decisions):,} requests). Set serving.log_prompts to true, restart the service,"
            " and run 'catimage intake' when there is traffic."
        )


def _take(
    workspace: Workspace,
    params: Params,
    source: DecisionSource,
    decisions: pd.DataFrame,
    now: datetime,
) -> _Taken:
    """Select new prompts, and append them to ``data/traffic/prompts.parquet``."""
    earlier = read_traffic(workspace.traffic_prompts, TRAFFIC_PROMPTS)
    logged = logged_prompts(decisions, params.sample.max_prompt_length)
    known = _known_prompts(workspace, earlier)
    new = logged.table[~logged.table["prompt_id"].isin(known.keys())]
    compared = new.head(COMPARED_PER_TAKEN * source.limit).reset_index(drop=True)
    table, n_similar = compared, 0
    if len(compared):
        encoder = load_encoder(params.encoder)
        vectors = encoder.encode(compared["prompt"].tolist(), progress=True).pooled
        existing = _vectors(workspace, encoder, known)
        limit = params.sample.max_similarity
        rows, similarity = select_novel(vectors, existing, source.limit, limit)
        table = compared.iloc[rows].assign(similarity=similarity, taken=pd.Timestamp(now))
        if limit < 1:
            others = np.delete(vectors, rows, axis=0)
            nearest = highest_similarity(others, np.concatenate([existing, vectors[rows]]))
            n_similar = int((nearest >= limit).sum())
    if len(table) or not workspace.traffic_prompts.exists():
        grown = pd.concat([frame for frame in (earlier, table) if len(frame)] or [earlier])
        write_traffic(grown, workspace.traffic_prompts, TRAFFIC_PROMPTS)
    return _Taken(table, logged, len(logged.table) - len(new), n_similar)


def _known_prompts(workspace: Workspace, earlier: pd.DataFrame) -> dict[str, str]:
    """Return the prompts of the workspace and those that were taken earlier, by id."""
    known = dict(zip(earlier["prompt_id"], earlier["prompt"], strict=True))
    if workspace.prompts.exists():
        table = read_table(workspace.prompts, PROMPTS, "sample")
        known |= dict(zip(table["prompt_id"], table["prompt"], strict=True))
    return known


def _vectors(workspace: Workspace, encoder: TextEncoder, known: dict[str, str]) -> Float32:
    """Return the embeddings of known prompts; those that the workspace has are read."""
    parts, folder = [], workspace.embeddings(encoder.name)
    missing = dict(known)
    if folder.exists():
        stored = Embeddings.load(folder)
        ids = [identifier for identifier in stored.prompt_ids if missing.pop(identifier, None)]
        parts.append(stored.take(ids).pooled)
    if missing:
        parts.append(encoder.encode(list(missing.values())).pooled)
    return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)


def _take_outcomes(
    workspace: Workspace, params: Params, decisions: pd.DataFrame, since: datetime
) -> tuple[int, dict[str, int]]:
    """Update ``data/traffic/outcomes.parquet``; return the number of its rows."""
    earlier = read_traffic(workspace.outcomes, OUTCOMES)
    new = logged_outcomes(decisions, params.metric, read_audits(workspace.audits))
    table = merged_outcomes(earlier, new.table, pd.Timestamp(since))
    if len(table) or len(earlier):
        write_traffic(table, workspace.outcomes, OUTCOMES)
    return len(table), new.left_out
