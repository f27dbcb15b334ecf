"""The identity of a prompt: its normalised text, its id, and its split."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

from catimage.data.schema import SPLITS

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
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", prompt).casefold())
    kept = _SYMBOL.sub(
        lambda match: " " if unicodedata.category(match[0]).startswith("P") else match[0], text
    )
    return " ".join(kept.split()) or normalise(prompt)


def split_of(prompt: str, gate_share: float) -> str:
    """Return the split of a prompt: ``train``, ``gate``, ``val`` or ``test``.

    The split is determined by the hash of the folded text (:func:`folded`) only. A prompt therefore
    keeps its split when prompts are added, and all spellings of a text are in the same split: a
    test prompt that differs from a training prompt only in case would bias the results. 10% of the
    prompts are in ``val`` and 10% in ``test``. ``gate``, which only promotion reads, is taken from
    the 80% that otherwise are in ``train``, so that ``val`` and ``test`` do not depend on its size.

    Args:
        prompt: the text of the prompt.
        gate_share: the share of the prompts in ``gate``, from 0 to 0.8.
    """
    position = _uniform_hash(f"split:{prompt_id(folded(prompt))}")
    if position < 0.8:
        return "train" if position < 0.8 - gate_share else "gate"
    return "val" if position < 0.9 else "test"


def splits_of(prompts: Iterable[str], gate_share: float) -> list[str]:
    """Return the split of each prompt, see :func:`split_of`."""
    return [split_of(prompt, gate_share) for prompt in prompts]


def required_splits(gate_share: float) -> list[str]:
    """Return the splits that must have prompts: ``gate`` only if its share is not 0."""
    return [split for split in SPLITS if split != "gate" or gate_share]


def split_percentages(gate_share: float) -> dict[str, float]:
    """Return the percentage of the prompts that each required split gets on average."""
    percentages = {"train": 80 - 100 * gate_share, "gate": 100 * gate_share, "val": 10, "test": 10}
    return {split: round(percentages[split], 6) for split in required_splits(gate_share)}


def _uniform_hash(text: str) -> float:
    """Return the first 64 bits of the SHA-256 of a text as a number in [0, 1)."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
