"""The protocol of text encoders, and a function that loads a text encoder."""

from __future__ import annotations

from typing import Protocol

from catimage.encoders.embeddings import Embeddings
from catimage.params import EncoderParams

SENTENCE_TRANSFORMERS_PREFIX = "sentence-transformers:"
"""Prefix of ``encoder.model`` for models of sentence-transformers; all other models are open_clip
models.
"""


class TextEncoder(Protocol):
    """A text encoder that computes :class:`~catimage.encoders.embeddings.Embeddings` of prompts.

    Attributes:
        name: the name of the encoder (:attr:`catimage.params.EncoderParams.name`), which is also
            the name of the folder of its stored embeddings.
        context: the maximum number of tokens per prompt; longer prompts are truncated.
    """

    name: str
    context: int

    def encode(self, prompts: list[str], progress: bool = False) -> Embeddings:
        """Return the embeddings of at least one prompt; ``progress`` shows a progress bar."""
        ...

    def count_tokens(self, prompts: list[str]) -> tuple[list[int], list[bool]]:
        """Return the number of tokens that are read of each prompt, and whether it is cut."""
        ...


def load_encoder(spec: EncoderParams) -> TextEncoder:
    """Return the text encoder described by ``spec``, the section ``encoder`` of ``params.yaml``.

    Raises:
        InputError: the model is unknown, or its weights are not found.
    """
    if spec.model.startswith(SENTENCE_TRANSFORMERS_PREFIX):
        from catimage.encoders.sentence_transformers import SentenceTransformerEncoder

        return SentenceTransformerEncoder(spec)
    from catimage.encoders.open_clip import OpenClipEncoder

    return OpenClipEncoder(spec)
