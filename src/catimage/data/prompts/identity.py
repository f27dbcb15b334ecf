"""The identity of a prompt: its normalised text, its id, and the split that it belongs to."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

_SIGN = re.compile(r"[^\w\s]|_")


def normalise(prompt: str) -> str:
    """NFC, with runs of white space as one blank; case is kept, since encoders and readers may see
    it.
    """
    return " ".join(unicodedata.normalize("NFC", prompt).split())


def prompt_id(prompt: str) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the normalised prompt."""
    return hashlib.sha256(normalise(prompt).encode()).hexdigest()[:16]


def folded(prompt: str) -> str:
    """What two spellings of one prompt share: its text without case and punctuation; the normalised
    prompt where nothing else is in it.
    """
    text = unicodedata.normalize("NFKC", prompt).casefold()
    kept = _SIGN.sub(
        lambda sign: " " if unicodedata.category(sign[0]).startswith("P") else sign[0], text
    )
    return " ".join(kept.split()) or normalise(prompt)


def splits_of(prompts: Iterable[str]) -> list[str]:
    """The split of each prompt: by a hash of its ``prompt_id``, and for those that are spellings of
    one text by that of :func:`folded`.

    Spellings that fell into train and test would flatter the figures; a prompt that has no other
    spelling keeps its split whatever is added to the set.
    """
    texts = list(prompts)
    ids, forms = [prompt_id(p) for p in texts], [folded(p) for p in texts]
    several = {
        form
        for form, n in Counter(form for _, form in set(zip(ids, forms, strict=True))).items()
        if n > 1
    }
    return [
        split_of(prompt_id(form) if form in several else i)
        for i, form in zip(ids, forms, strict=True)
    ]


def split_of(identifier: str) -> str:
    """train, val or test (80/10/10), from a hash of ``prompt_id`` alone: a prompt never changes
    sides when the set grows.
    """
    place = (
        int.from_bytes(hashlib.sha256(f"split:{identifier}".encode()).digest()[:8], "big") / 2**64
    )
    return "train" if place < 0.8 else "val" if place < 0.9 else "test"
