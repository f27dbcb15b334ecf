"""The protocol of text encoders, and the function that loads one from section ``encoder``."""

from __future__ import annotations

from typing import Protocol

from catimage.encoders.embeddings import Embeddings
from catimage.params import EncoderParams

SENTENCE_TRANSFORMERS_PREFIX = "sentence-transformers:"
"""Prefix of ``encoder.model`` that selects the sentence-transformers library; models without it are
open_clip models.
"""


class TextEncoder(Protocol):
    """A text encoder that computes :class:`~catimage.encoders.embeddings.Embeddings` of prompts.

    Attributes:
        name: folder name of the stored embeddings, :attr:`catimage.params.EncoderParams.name`.
        context: maximum number of tokens per prompt; longer prompts are truncated.
    """

    name: str
    context: int

    def encode(self, prompts: list[str], progress: bool = False) -> Embeddings:
        """Return the embeddings of at least one prompt; ``progress`` shows a progress bar."""
        ...


def load_encoder(spec: EncoderParams) -> TextEncoder:
    """Return the text encoder that ``spec`` (section ``encoder`` of ``params.yaml``) describes.

    Raises:
        InputError: the model is unknown, or its weights are not found.
    """
    if spec.model.startswith(SENTENCE_TRANSFORMERS_PREFIX):
        from catimage.encoders.sentence_transformers import SentenceTransformerEncoder

        return SentenceTransformerEncoder(spec)
    from catimage.encoders.open_clip import OpenClipEncoder

    return OpenClipEncoder(spec)
