"""The rows of the decision log that the checks read."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from catimage.common.arrays import Float32

LATE_INTERVALS = 3
"""Number of earlier intervals in which late rows are counted."""
RECENT_PROMPTS = 2000
"""Number of distinct prompts within which a repeated prompt counts once. The witness of the check
``prompts`` has forgotten a prompt long before
(:data:`~catimage.monitoring.prompt_drift.MEMORY`)."""
_DIGITS = 8
"""Digits of the hash of a recent prompt: a new prompt has those of one of 2,000 others with a
probability of 5e-7."""


def interval_start(time: datetime, minutes: float) -> datetime:
    """Return the start of the interval that contains a time; intervals start at 00:00 UTC.

    Args:
        time: a time with a time zone.
        minutes: the length of an interval.
    """
    length = timedelta(minutes=minutes)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return epoch + (time - epoch) // length * length


def without_duplicates(rows: pd.DataFrame) -> pd.DataFrame:
    """Drop rows with the same request id and time as an earlier row, such as of a copied file."""
    return rows.drop_duplicates(["request_id", "time"], ignore_index=True)


def row_counts(rows: pd.DataFrame, minutes: float) -> dict[str, int]:
    """Return the number of rows of each interval, by the start of the interval in ISO format."""
    starts = [interval_start(time, minutes).isoformat() for time in rows["time"]]
    return dict(sorted(Counter(starts).items()))


def sampled(rows: pd.DataFrame, minutes: float, largest: int) -> pd.DataFrame:
    """Select at most ``largest`` rows of each interval.

    The selection depends only on the ids and times, so that a repeated run selects the same rows.

    Args:
        rows: rows of the decision log, in order of time.
        minutes: the length of an interval.
        largest: number of rows per interval.

    Returns:
        The selected rows, in order of time.
    """
    starts = [interval_start(time, minutes) for time in rows["time"]]
    keys = [_hash(f"{i} {t}") for i, t in zip(rows["request_id"], rows["time"], strict=True)]
    order = pd.DataFrame({"start": starts, "key": keys}, rows.index).sort_values("key")
    kept = order.groupby("start", sort=False).head(largest).index
    return rows.loc[np.sort(kept)].reset_index(drop=True)


def new_prompts(
    rows: pd.DataFrame, training: Collection[str], recent: Sequence[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Select the rows whose prompt is neither a training prompt nor a recent one.

    A prompt that is repeated is no drift, but the test would notice it: a training prompt has a
    training prompt at distance 0, which no other training prompt has, and a prompt that was tested
    before is part of the witness.

    Args:
        rows: rows of the decision log, in order of time.
        training: the ids of the training prompts.
        recent: the second value that this function returned for the rows before.

    Returns:
        The selected rows, and hashes of the last :data:`RECENT_PROMPTS` distinct prompts that are
        no training prompts.
    """
    seen, kept = dict.fromkeys(recent), []
    for prompt_id in rows["prompt_id"]:
        key = _hash(prompt_id)[:_DIGITS]
        kept.append(prompt_id not in training and key not in seen)
        if prompt_id not in training:
            seen.pop(key, None)
            seen[key] = None
        if len(seen) > RECENT_PROMPTS:
            del seen[next(iter(seen))]
    return rows[np.array(kept, bool)].reset_index(drop=True), list(seen)


def embeddings_of(
    rows: pd.DataFrame, width: int, encode: Callable[[list[str]], Float32]
) -> tuple[Float32, int]:
    """Return the embeddings of the logged requests.

    The router that is served may not use a text encoder, and then no embedding is logged. The
    prompt is encoded here instead, if it is logged.

    Args:
        rows: rows of the decision log.
        width: the width of the embeddings.
        encode: a function from at least one prompt to embeddings (n_prompts, width).

    Returns:
        The embeddings, (n_embeddings, width), rounded to half precision as in the log, and the
        number of rows with neither an embedding of this width nor a prompt.
    """
    logged = [e if e is not None and len(e) == width else None for e in rows["embedding"]]
    prompts = [
        prompt
        for embedding, prompt in zip(logged, rows["prompt"], strict=True)
        if embedding is None and isinstance(prompt, str)
    ]
    encoded = dict(zip(prompts, encode(prompts), strict=True)) if prompts else {}
    found = [
        embedding if embedding is not None else encoded[prompt]
        for embedding, prompt in zip(logged, rows["prompt"], strict=True)
        if embedding is not None or prompt in encoded
    ]
    embeddings = np.array(found, np.float16).astype(np.float32).reshape(-1, width)
    return embeddings, len(rows) - len(found)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
