"""Text encoders: what the router reads a prompt with, frozen (CATImage 5.1)."""

from __future__ import annotations

from typing import Protocol

from catimage.encoders.embeddings import Embeddings
from catimage.params import Encoder

SENTENCE_TRANSFORMERS = "sentence-transformers:"
"""What the names of that library's models begin with; all others are open_clip's."""


class TextEncoder(Protocol):
    """Anything that turns prompts into :class:`~catimage.encoders.embeddings.Embeddings`."""

    name: str
    """The folder name of its embeddings, :attr:`catimage.params.Encoder.name`."""
    context: int
    """The most tokens that it reads of a prompt; what is beyond is cut, and counted."""

    def encode(self, prompts: list[str], progress: bool = False) -> Embeddings:
        """Embeds prompts; ``progress`` shows a bar."""
        ...


def load_encoder(spec: Encoder) -> TextEncoder:
    """The encoder that the parameters name.

    Raises:
        InputError: an unknown model, or weights that are not there.
    """
    if spec.model.startswith(SENTENCE_TRANSFORMERS):
        from catimage.encoders.sentence_transformers import SentenceTransformerEncoder

        return SentenceTransformerEncoder(spec)
    from catimage.encoders.open_clip import OpenClipEncoder

    return OpenClipEncoder(spec)


__all__ = ["Embeddings", "TextEncoder", "load_encoder"]
