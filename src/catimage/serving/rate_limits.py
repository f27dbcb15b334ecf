"""Rate limits in the notation of the package ``limits``, such as ``60/minute``."""

from __future__ import annotations

from limits import RateLimitItem, parse_many

from catimage.errors import InputError


def parse_rate_limit(text: str, field: str = "serving.rate_limit") -> list[RateLimitItem]:
    """Return the limits in a text; several are separated by semicolons.

    Args:
        text: the limits, such as ``60/minute`` or ``10/second; 1000/hour``.
        field: name of the setting, for the message.

    Raises:
        InputError: the text is invalid, longer than 64 characters, or allows no request.
    """
    try:
        items = parse_many(text) if len(text) <= 64 else []
    except ValueError:
        items = []
    if not items or any(item.amount < 1 or item.multiples < 1 for item in items):
        raise InputError(
            f"{field}: {text[:64]!r} is not a rate limit. Write it as 60/minute, or as"
            " 10/second; 1000/hour."
        )
    return items
