"""The text tokenizer of the CLIP model: byte-level BPE with about 750 tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from catimage.scenes.vocabulary import COLOURS, NUMBERS, SHAPES, TEXTURES

CONTEXT_LENGTH = 40
"""Number of tokens of an encoded text, with padding."""
START, END = "<|startoftext|>", "<|endoftext|>"
MAX_VOCABULARY = 1000
"""Largest number of tokens in the vocabulary."""


def train_text_tokenizer(folder: Path, seed: int = 0, captions: int = 20_000) -> None:
    """Train a byte-level BPE tokenizer on captions, and write it as a ``CLIPTokenizer``.

    A byte-level tokenizer can encode every text. The end token has the highest id, because
    open_clip computes the embedding of a text from the hidden state of the token with the highest
    id.

    Args:
        folder: The folder for ``vocab.json``, ``merges.txt`` and two configuration files.
        seed: Seed of the captions.
        captions: Number of captions to train on.
    """
    bpe, alphabet = _train_bpe(seed, captions)
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    by_id = sorted(bpe["vocab"], key=bpe["vocab"].get)
    tokens += [token for token in by_id if token not in set(tokens)]
    merges = [" ".join(m) if isinstance(m, list) else m for m in bpe["merges"]]
    _write(folder, [*tokens, START, END], merges)


def _train_bpe(seed: int, captions: int) -> tuple[dict[str, Any], list[str]]:
    """Return the trained BPE model as a dictionary, and the byte alphabet."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    from catimage.scenes.grammar import sample_scene

    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), byte_level])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=MAX_VOCABULARY - 2,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    rng = np.random.default_rng(seed)
    texts = [sample_scene(rng).caption().replace(",", " ,") for _ in range(captions)]
    texts += [*COLOURS, *SHAPES, *TEXTURES, *NUMBERS[1:]] * 50
    bpe.train_from_iterator(texts, trainer)
    return json.loads(bpe.to_str())["model"], alphabet


def _write(folder: Path, tokens: list[str], merges: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: token_id for token_id, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": CONTEXT_LENGTH,
        "do_lower_case": True,
        **special,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
