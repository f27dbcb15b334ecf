"""What is a prompt at all: not empty, not a book, whole characters."""

from __future__ import annotations

from catimage.data.prompts.identity import normalise
from catimage.errors import InputError

TOO_LONG = 100_000
"""A text of this many characters or more is taken for a mistake, wherever it comes from."""


def clean(text: str, where: str, longest: int = TOO_LONG - 1) -> str:
    """The normalised prompt (:func:`catimage.data.prompts.identity.normalise`) of at most ``longest``
    characters; ``where`` begins the complaint.

    Raises:
        InputError: the prompt is empty, too long, or has half a character (a surrogate, as JSON can
            write them).
    """
    prompt = normalise(text)
    if not prompt:
        raise InputError(f"{where}: the prompt is empty: fill it in or remove it.")
    if len(prompt) > longest:
        raise InputError(
            f"{where}: the prompt has {len(prompt):,} characters, more than {longest:,}: shorten or"
            " remove it."
        )
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where}: the prompt holds half of a character (a lone surrogate): write the character"
            " whole."
        ) from error
    return prompt
