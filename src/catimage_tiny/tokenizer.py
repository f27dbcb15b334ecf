"""The CLIP tokenizer of the embedded pool: byte-level BPE of about 750 tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from catimage.scenes.vocabulary import COLOURS, NUMBERS, SHAPES, TEXTURES

CONTEXT = 40
START, END = "<|startoftext|>", "<|endoftext|>"
MAX_VOCABULARY = 1000


def train_tokenizer(folder: Path, seed: int = 0, captions: int = 20_000) -> None:
    """Learn merges from scene captions and write what ``CLIPTokenizer.from_pretrained`` reads.

    Byte-level BPE has an encoding for every text. The end token has the highest id, because
    open_clip pools a text at the position of its highest id.

    Args:
        folder: Gets ``vocab.json``, ``merges.txt`` and two configuration files.
        seed: Of the captions.
        captions: Number of captions to learn from.
    """
    learned, letters = _learn_bpe(seed, captions)
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    by_id = sorted(learned["vocab"], key=learned["vocab"].get)
    tokens += [token for token in by_id if token not in set(tokens)]
    merges = [" ".join(m) if isinstance(m, list) else m for m in learned["merges"]]
    _write(folder, [*tokens, START, END], merges)


def _learn_bpe(seed: int, captions: int) -> tuple[dict[str, Any], list[str]]:
    """Return the trained BPE model as a dictionary, and the byte alphabet."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    from catimage.scenes.grammar import draw_scene

    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), bytes_of])
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=MAX_VOCABULARY - 2,
        initial_alphabet=letters,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    rng = np.random.default_rng(seed)
    texts = [draw_scene(rng).caption().replace(",", " ,") for _ in range(captions)]
    texts += [*COLOURS, *SHAPES, *TEXTURES, *NUMBERS[1:]] * 50
    bpe.train_from_iterator(texts, trainer)
    return json.loads(bpe.to_str())["model"], letters


def _write(folder: Path, tokens: list[str], merges: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: i for i, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": CONTEXT,
        "do_lower_case": True,
        **special,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
