"""The exception for invalid user input, and spelling suggestions for its messages."""

from __future__ import annotations

from collections.abc import Sequence


class InputError(ValueError):
    """A file, parameter or argument that the user has to correct.

    The message has the form ``<file or key>: <problem>. <fix>.``, for example
    ``costs.csv: row 3: the unit is empty. Fill it in or remove the row.`` The command line prints
    this message and exits with status 2; the service responds with a 4xx status.
    """


class OutageError(InputError):
    """A server or a database does not respond; the same command may succeed later."""


def closest(name: str, names: Sequence[str]) -> str | None:
    """Return the name in ``names`` that is most similar to ``name``; None if no name is similar."""
    from difflib import get_close_matches

    matches = get_close_matches(name, names, n=1)
    return matches[0] if matches else None


def nearest(name: str, names: Sequence[str]) -> str:
    """Return `` (did you mean 'X'?)`` with the most similar name in ``names``, or ``""``."""
    suggestion = closest(name, names)
    return f" (did you mean {suggestion!r}?)" if suggestion else ""


def error_summary(error: Exception) -> str:
    """Return the message of another library's exception as one line of at most 300 characters."""
    message = " ".join(str(error).split())[:300].rstrip(".")
    return message or type(error).__name__
