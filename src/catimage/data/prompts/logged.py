"""Prompts in the decision log."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from catimage.data.prompts.cleaning import clean
from catimage.data.prompts.identity import normalise, prompt_id

COLUMNS = ("prompt_id", "prompt", "users", "time")
SUCCESS = 200
"""The HTTP status of requests that were answered; prompts of others may be invalid or refused."""


@dataclass(frozen=True)
class LoggedPrompts:
    """The distinct prompts of answered requests.

    Attributes:
        table: one row per prompt with the columns :data:`COLUMNS`, the newest first.
        n_too_long: the number of distinct prompts that were omitted because of their length.
    """

    table: pd.DataFrame
    n_too_long: int


def logged_prompts(decisions: pd.DataFrame, max_length: int) -> LoggedPrompts:
    """Return the distinct prompts of a decision log.

    Args:
        decisions: rows of the decision log, in order of time. Rows without a prompt, and of
            requests that were not answered, are ignored.
        max_length: prompts with more characters are omitted.

    Raises:
        InputError: a prompt is invalid.
    """
    used = decisions[decisions["prompt"].notna() & (decisions["status"] == SUCCESS)]
    newest = used.iloc[::-1].assign(prompt=lambda rows: rows["prompt"].map(normalise))
    newest = newest.assign(prompt_id=newest["prompt"].map(prompt_id).astype(object))
    users = newest.dropna(subset="user").groupby("prompt_id")["user"].agg(lambda u: sorted(set(u)))
    distinct = newest.drop_duplicates("prompt_id")
    short = distinct[distinct["prompt"].str.len() <= max_length]
    prompts = [
        clean(text, f"decision log, request {request}")
        for text, request in zip(short["prompt"], short["request_id"], strict=True)
    ]
    senders = [users.get(identifier, []) for identifier in short["prompt_id"]]
    table = pd.DataFrame(
        {
            "prompt_id": short["prompt_id"].to_numpy(object),
            "prompt": prompts,
            "users": pd.Series(senders, dtype=object),
            "time": short["time"].to_numpy(),
        }
    )
    table["time"] = short["time"].reset_index(drop=True)
    return LoggedPrompts(table, len(distinct) - len(short))
