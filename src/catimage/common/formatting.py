"""Formatting of numbers, gains, tables and JSON documents for display."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any


def format_number(value: float | None, digits: int = 4) -> str:
    """Format a number with ``digits`` significant digits; None is formatted as a dash."""
    return "-" if value is None else f"{value:.{digits}g}"


def format_percent(share: float | None) -> str:
    """Format a fraction as a percentage (``55%``, ``0.123%``); None is formatted as a dash."""
    return "-" if share is None else f"{100 * share:.3g}%"


def format_interval(interval: Sequence[float], percent: bool = False) -> str:
    """Format the ends of an interval: ``[0.008, 0.016]``, with ``percent`` ``[0.8%, 1.6%]``."""
    low, high = (format_percent(end) if percent else f"{end:.3g}" for end in interval)
    return f"[{low}, {high}]"


def format_gain(gain: float, interval: Sequence[float]) -> str:
    """Format a gain with a sign and its interval: ``+0.012 [0.008, 0.016]``."""
    return f"{gain:+.3g} {format_interval(interval)}"


def format_share(share: float | None, interval: Sequence[float] | None) -> str:
    """Format a fraction and its interval, unless it is None: ``55% [50%, 60%]``."""
    if share is None or interval is None:
        return format_percent(share)
    return f"{format_percent(share)} {format_interval(interval, percent=True)}"


def format_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    align: str | None = None,
    rule: bool = True,
) -> list[str]:
    """Format a table as lines of aligned columns.

    Args:
        header: one heading per column.
        rows: the rows, with one cell per column.
        align: one letter per column, ``l`` (left) or ``r`` (right). By default, the first and the
            last column are aligned left and the columns between them right.
        rule: whether a line of dashes separates the header from the rows.

    Returns:
        One string per line.
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    sides = align or "l" + "r" * (len(widths) - 2) + "l" * (len(widths) > 1)
    dashes = [["-" * width for width in widths]] if rule else []
    return [
        "  ".join(
            cell.ljust(width) if side == "l" else cell.rjust(width)
            for cell, width, side in zip(line, widths, sides, strict=True)
        ).rstrip()
        for line in (header, *dashes, *rows)
    ]


def format_json(document: dict[str, Any]) -> str:
    """Format a document as JSON with one line per key; a list of numbers is on one line.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    text = json.dumps(document, indent=1, allow_nan=False)
    numbers = r"\[\n([^\[\]{}\"]*)\n *\]"
    return re.sub(numbers, lambda match: f"[{' '.join(match[1].split())}]", text) + "\n"
