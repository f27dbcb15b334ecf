"""Validation and normalisation of the text of prompts."""

from __future__ import annotations

from catimage.data.prompts.identity import normalise
from catimage.errors import InputError

TOO_LONG = 100_000
"""A text of this many characters or more is refused, whatever its source."""


def clean(text: str, where: str, max_length: int = TOO_LONG - 1) -> str:
    """Return the normalised prompt (:func:`catimage.data.prompts.identity.normalise`).

    Args:
        text: the prompt as given.
        where: the file and row of the prompt, or another location, for error messages.
        max_length: the largest number of characters.

    Raises:
        InputError: the prompt is empty, is too long, or contains a lone surrogate, which JSON can
            encode and UTF-8 cannot.
    """
    prompt = normalise(text)
    if not prompt:
        raise InputError(f"{where}: the prompt is empty. Fill it in or remove it.")
    if len(prompt) > max_length:
        raise InputError(
            f"{where}: the prompt has {len(prompt):,} characters, more than {max_length:,}. Shorten"
            " or remove it."
        )
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where}: the prompt contains a lone surrogate (half of a UTF-16 character). Write the"
            " whole character."
        ) from error
    return prompt
