"""Placeholder tokenizers, for computing costs without the files of a tokenizer."""

from __future__ import annotations

import re
from typing import Any

import torch

DEFAULT_CONTEXT_LENGTH = 512
"""Context length in tokens of a text encoder whose configuration has no
``max_position_embeddings``.
"""


def placeholder_tokenizer(name: str, models: dict[str, Any]) -> _WordTokenizer:
    """Return a placeholder for a tokenizer, with the context length of its text encoder.

    Args:
        name: name of the tokenizer.
        models: the models of the pipeline by name.
    """
    encoder = models.get(name.replace("tokenizer", "text_encoder"))
    config = getattr(encoder, "config", None)
    return _WordTokenizer(getattr(config, "max_position_embeddings", DEFAULT_CONTEXT_LENGTH))


class _WordTokenizer:
    """Splits texts into one token per word or punctuation mark, padded as requested."""

    added_tokens_encoder: dict[str, int] = {}  # noqa: RUF012 (an attribute of tokenizers)

    def __init__(self, context_length: int) -> None:
        self.model_max_length = context_length

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"\w+|[^\w\s]", text)

    def apply_chat_template(self, messages: Any, **options: Any) -> str:
        return str(messages)

    def batch_decode(self, tokens: Any) -> list[str]:
        return [""] * len(tokens)

    def __call__(
        self,
        text: str | list[str],
        padding: Any = False,
        max_length: int | None = None,
        **options: Any,
    ) -> Any:
        from transformers import BatchEncoding

        texts = [text] if isinstance(text, str) else text
        longest = max(len(self.tokenize(text)) for text in texts)
        length = min(longest, max_length or longest)
        if padding == "max_length" and max_length:
            length = max_length
        mask = (torch.arange(length) < longest).long()
        ids = torch.zeros(len(texts), length, dtype=torch.long)
        positions = torch.arange(length).expand_as(ids)
        return BatchEncoding(
            {"input_ids": ids, "attention_mask": mask.expand_as(ids), "position_ids": positions}
        )
