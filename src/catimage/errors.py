"""The one exception for what a user can mend."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input. The message is one sentence: what is wrong, where (file, row or key), and how to
    mend it.

    The command line prints it and exits with 2; the service answers with a 4xx.
    """


def nearest(name: str, known: list[str] | tuple[str, ...]) -> str:
    """`` (did you mean X?)`` for a mistyped name, or an empty string where nothing is near."""
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
