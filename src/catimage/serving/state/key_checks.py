"""Checks of the values of a new API key."""

from __future__ import annotations

import math
import unicodedata

from catimage.errors import InputError
from catimage.serving.rate_limits import parse_rate_limit

MAX_NAME = 100
"""Largest number of characters of a name."""


def check_key(
    name: str, budget: float | None, ceiling: float | None, rate_limit: str | None
) -> None:
    """Check the values of a new key.

    Raises:
        InputError: the name is empty, long or has control characters; the budget is not a finite
            number above 0, or the ceiling is not one that is at least 0; or the rate limit is
            invalid.
    """
    problem = _name_problem(name)
    if problem:
        raise InputError(f"name: {problem}. Use letters, digits, spaces and - _ . @.")
    if budget is not None and not (math.isfinite(budget) and budget > 0):
        raise InputError(f"budget: {budget:g} is not a finite number above 0. Correct it.")
    if ceiling is not None and not (math.isfinite(ceiling) and ceiling >= 0):
        raise InputError(
            f"ceiling: {ceiling:g} is not a finite number that is at least 0. Correct it."
        )
    if rate_limit is not None:
        parse_rate_limit(rate_limit, "rate_limit")


def _name_problem(name: str) -> str | None:
    if not name.strip():
        return "the name is empty"
    if len(name) > MAX_NAME:
        return f"the name has more than {MAX_NAME} characters"
    if name != name.strip():
        return "the name begins or ends with white space"
    if any(unicodedata.category(character)[0] == "C" for character in name):
        return "the name contains a control character"
    return None
