"""Sentences and table rows about off-policy estimates, for the report and the command line."""

from __future__ import annotations

from typing import Any

from catimage.common.formatting import format_gain, format_number

FEW = 100
"""Effective number of requests below which the intervals are rough."""
METHODS = {
    "doubly_robust": "doubly robust",
    "self_normalized_ips": "self-normalised inverse propensity",
    "ips": "inverse propensity",
}
"""Names of the methods, in the order of the rows of the report."""


def off_policy_line(document: dict[str, Any] | None) -> str:
    """Return one sentence about the estimates; empty without logged outcomes."""
    if not document:
        return ""
    if document["reason"]:
        return f"Logged traffic: {document['reason']}"
    robust, gain = document["challenger"]["doubly_robust"], document["gain"]
    return (
        f"Logged traffic: on {document['requests']:,} scored requests, the router would have a mean"
        f" {document['metric']} of {format_number(robust['quality']['value'])} at a mean cost of"
        f" {format_number(robust['cost']['value'])} {document['cost_unit']}, that is, a gain of"
        f" {_gain(gain['quality'])} over the decisions that were served (doubly robust)."
    )


def weights_line(document: dict[str, Any]) -> str:
    """Return a sentence about the weights of estimates, whose reason is None."""
    size, n = document["effective_sample_size"], document["requests"]
    few = f" The intervals are rough below {FEW} effective requests." if size < FEW else ""
    return (
        f"The weighted requests are worth {size:,.0f} of {n:,} equally weighted ones; the largest"
        f" weight is {format_number(document['largest_weight'], 3)}.{few}"
    )


def left_out_lines(document: dict[str, Any]) -> list[str]:
    """Return a sentence per reason for which scored requests were left out."""
    return [f"{n:,} scored requests left out: {why}." for why, n in document["left_out"].items()]


def _gain(row: dict[str, Any]) -> str:
    value, interval = row["value"], row["interval"]
    if value is None or interval is None:
        return format_number(value, 3)
    return format_gain(value, interval)
