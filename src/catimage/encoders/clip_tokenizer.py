"""The tokenizer of CLIP models, without transformers and torch, whose import takes seconds."""

from __future__ import annotations

import html
import json
from pathlib import Path

VOCABULARY, MERGES, TOKENIZER_CONFIG = "vocab.json", "merges.txt", "tokenizer_config.json"
START, END = "<|startoftext|>", "<|endoftext|>"
_PATTERN = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
"""The regular expression of CLIP's tokenizer (Radford et al., 2021)."""


def has_clip_tokenizer(folder: Path) -> bool:
    """Return whether a folder has the files of a CLIP tokenizer with CLIP's own special tokens."""
    if not all((folder / name).is_file() for name in (VOCABULARY, MERGES, TOKENIZER_CONFIG)):
        return False
    config = json.loads((folder / TOKENIZER_CONFIG).read_text())
    special = {config.get("bos_token"), config.get("eos_token"), config.get("unk_token")}
    known = config.get("tokenizer_class") in ("CLIPTokenizer", "CLIPTokenizerFast")
    return known and special == {START, END} and not (folder / "tokenizer.json").exists()


class ClipTokenizer:
    """Byte-pair encoding of prompts, as open_clip does it. Threads may share it.

    The text is repaired and its white space is normalised as in open_clip.

    Args:
        folder: a folder for which :func:`has_clip_tokenizer` is true.
        context: the maximum number of tokens per prompt.
    """

    def __init__(self, folder: Path, context: int) -> None:
        from tokenizers import AddedToken, Regex, Tokenizer
        from tokenizers.models import BPE
        from tokenizers.normalizers import NFC, Lowercase, Replace, Sequence
        from tokenizers.pre_tokenizers import ByteLevel, Split
        from tokenizers.pre_tokenizers import Sequence as PreTokenizers

        lines = (folder / MERGES).read_text(encoding="utf-8").splitlines()
        pairs = [line.split() for line in lines if line and not line.startswith("#version")]
        merges = [(first, second) for first, second in pairs]
        vocabulary = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
        model = BPE(
            vocab=vocabulary,
            merges=merges,
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
            unk_token=END,
        )
        self._tokenizer = Tokenizer(model)
        self._tokenizer.normalizer = Sequence([NFC(), Replace(Regex(r"\s+"), " "), Lowercase()])
        self._tokenizer.pre_tokenizer = PreTokenizers(
            [
                Split(Regex(_PATTERN), "removed", invert=True),
                ByteLevel(add_prefix_space=False),
            ]
        )
        self._tokenizer.add_special_tokens(
            [AddedToken(token, normalized=False, special=True) for token in (START, END)]
        )
        self._start, self._end = vocabulary[START], vocabulary[END]
        self._context = context

    def encode(self, prompts: list[str]) -> tuple[list[list[int]], list[bool]]:
        """Return the token ids of each prompt, and whether it was truncated.

        The ids begin with the start token and stop at the first end token.
        """
        found = self._tokenizer.encode_batch_fast([_repaired(prompt) for prompt in prompts])
        rows, truncated = [], []
        for encoding in found:
            ids = [self._start, *encoding.ids, self._end]
            ids = ids[: ids.index(self._end) + 1]
            truncated.append(len(ids) > self._context)
            rows.append([*ids[: self._context - 1], self._end] if truncated[-1] else ids)
        return rows, truncated


def _repaired(text: str) -> str:
    import ftfy

    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())
