"""A CLIP tokenizer of a thousand tokens: byte-level BPE, so that every text has an encoding,
learned from captions.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from catimage.scenes.grammar import COLOURS, NUMBERS, SHAPES, TEXTURES, draw_scene

CONTEXT = 40
START, END = "<|startoftext|>", "<|endoftext|>"


def train_tokenizer(
    folder: Path, seed: int = 0, vocabulary: int = 1000, captions: int = 20_000
) -> None:
    """Learns the merges on scene captions and writes ``folder`` as
    ``CLIPTokenizer.from_pretrained`` reads it.

    The end token has the highest id, since open_clip pools a text where its ids are largest.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    rng = np.random.default_rng(seed)
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), bpe.pre_tokenizer]
    )
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - 2,
        initial_alphabet=letters,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    words = [*COLOURS, *SHAPES, *TEXTURES, *NUMBERS[1:]] * 50
    bpe.train_from_iterator(
        [draw_scene(rng).caption().replace(",", " ,") for _ in range(captions)] + words, trainer
    )
    learned = json.loads(bpe.to_str())["model"]
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    tokens += [
        t for t in sorted(learned["vocab"], key=learned["vocab"].get) if t not in set(tokens)
    ]
    merges = [" ".join(m) if isinstance(m, list) else m for m in learned["merges"]]
    _write(folder, [*tokens, START, END], merges)


def _write(folder: Path, tokens: list[str], merges: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(
        json.dumps({t: i for i, t in enumerate(tokens)}, ensure_ascii=False)
    )
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
