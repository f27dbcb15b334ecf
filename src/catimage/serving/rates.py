"""Rate limits in the notation of the package ``limits``, such as ``60/minute``."""

from __future__ import annotations

from limits import RateLimitItem, parse_many

from catimage.errors import InputError


def parse_rate(rate: str, field: str = "serving.rate") -> list[RateLimitItem]:
    """Return the limits in a text; several are separated by semicolons.

    Args:
        rate: a text such as ``60/minute`` or ``10/second; 1000/hour``.
        field: name of the setting, for the message.

    Raises:
        InputError: the text is invalid, longer than 64 characters, or allows no request.
    """
    try:
        items = parse_many(rate) if len(rate) <= 64 else []
    except ValueError:
        items = []
    if not items or any(item.amount < 1 or item.multiples < 1 for item in items):
        raise InputError(
            f"{field}: {rate[:64]!r} is not a rate limit. Write it as 60/minute, or as"
            " 10/second; 1000/hour."
        )
    return items
