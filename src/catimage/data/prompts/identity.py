"""The identity of a prompt: its normalised text, its id, and its split."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

import numpy as np

from catimage.common.arrays import Floats

_SYMBOL = re.compile(r"[^\w\s]|_")


def normalise(prompt: str) -> str:
    """Return the prompt in Unicode form NFC, with every run of white space as one space.

    Case is kept, because text encoders can distinguish it.
    """
    return " ".join(unicodedata.normalize("NFC", prompt).split())


def prompt_id(prompt: str) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of the normalised prompt."""
    return hashlib.sha256(normalise(prompt).encode()).hexdigest()[:16]


def folded(prompt: str) -> str:
    """Return the text without case and punctuation, so that different spellings become equal.

    A prompt that consists of punctuation is only normalised.
    """
    text = unicodedata.normalize("NFKC", prompt).casefold()
    kept = _SYMBOL.sub(
        lambda match: " " if unicodedata.category(match[0]).startswith("P") else match[0], text
    )
    return " ".join(kept.split()) or normalise(prompt)


def splits_of(prompts: Iterable[str]) -> list[str]:
    """Return the split of each prompt: ``train``, ``val`` or ``test``.

    Spellings of one text (:func:`folded`) are put into the same split, by the hash of the folded
    text, because a test prompt that differs from a training prompt in case only would bias the
    results. All other prompts are split by the hash of their ``prompt_id``, and keep their split
    when prompts with other texts are added.
    """
    texts = list(prompts)
    ids, forms = [prompt_id(p) for p in texts], [folded(p) for p in texts]
    spellings = Counter(form for _, form in set(zip(ids, forms, strict=True)))
    return [
        split_of(prompt_id(form) if spellings[form] > 1 else identifier)
        for identifier, form in zip(ids, forms, strict=True)
    ]


def split_of(identifier: str) -> str:
    """Return the split (train 80%, val 10%, test 10%) of a prompt, by the hash of its id."""
    position = _uniform_hash(f"split:{identifier}")
    return "train" if position < 0.8 else "val" if position < 0.9 else "test"


def prompt_draws(prompts: Iterable[str]) -> Floats:
    """Return a pseudo-random number in [0, 1) per prompt, (n_prompts,), for randomized routing.

    Each number is a hash of the normalised text, independent of the hash that determines the split.
    """
    return np.array([_uniform_hash(f"draw:{prompt_id(prompt)}") for prompt in prompts])


def _uniform_hash(text: str) -> float:
    """Return the first 64 bits of the SHA-256 of a text as a number in [0, 1)."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
