"""Embeddings of prompts, and how they are kept: token states ragged and in half precision, since
most prompts are short.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from catimage.data.prompts.identity import prompt_id
from catimage.errors import InputError
from catimage.workspace import replacing

ARRAYS, TEXTS = "embeddings.safetensors", "prompts.json"
FIELDS = ("pooled", "layers", "tokens", "offsets", "cut")


@dataclass(frozen=True)
class Embeddings:
    """Prompts as an encoder sees them.

    Attributes:
        prompt_ids: one a row.
        pooled: float32 (n_prompts, width), of unit length, so that a product is a cosine
            similarity.
        layers: float16 (n_prompts, n_layers, layer_width), the mean over a prompt's tokens of what
            goes into the first layer and of what comes out of each.
        tokens: float16 (total_tokens, token_width), the last hidden states, without padding.
        offsets: int64 (n_prompts + 1,); prompt ``i`` is ``tokens[offsets[i]:offsets[i + 1]]``.
        cut: bool (n_prompts,), whether a prompt was longer than the encoder's context.
        encoder: the encoder's name.
    """

    prompt_ids: list[str]
    pooled: NDArray[np.float32]
    layers: NDArray[np.float16]
    tokens: NDArray[np.float16]
    offsets: NDArray[np.int64]
    cut: NDArray[np.bool_]
    encoder: str

    def __len__(self) -> int:
        return len(self.prompt_ids)

    @property
    def truncated(self) -> int:
        """The number of prompts that were cut at the encoder's context."""
        return int(self.cut.sum())

    @cached_property
    def _row(self) -> dict[str, int]:
        return {identifier: i for i, identifier in enumerate(self.prompt_ids)}

    def has(self, ids: list[str]) -> bool:
        """Whether each of these prompts is here."""
        return all(i in self._row for i in ids)

    def take(self, ids: list[str]) -> Embeddings:
        """The embeddings of these prompts, in this order.

        Raises:
            InputError: one of them is not here.
        """
        missing = [i for i in ids if i not in self._row]
        if missing:
            raise InputError(
                f"{len(missing)} prompts have no embedding by {self.encoder} (first {missing[0]}):"
                " run 'catimage sample' again."
            )
        rows = np.array([self._row[i] for i in ids], np.int64)
        lengths = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        places = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Embeddings(
            list(ids),
            self.pooled[rows],
            self.layers[rows],
            self.tokens[places],
            offsets,
            self.cut[rows],
            self.encoder,
        )

    def save(self, folder: Path) -> None:
        """Writes a folder, whole or not at all."""
        from safetensors.numpy import save_file

        with replacing(folder) as fresh:
            fresh.mkdir()
            save_file(
                {name: np.ascontiguousarray(getattr(self, name)) for name in FIELDS}, fresh / ARRAYS
            )
            texts = {
                "encoder": self.encoder,
                "truncated": self.truncated,
                "prompt_ids": self.prompt_ids,
            }
            (fresh / TEXTS).write_text(json.dumps(texts, indent=0) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Embeddings:
        """Reads what :meth:`save` wrote.

        Raises:
            InputError: the folder is not there, or not whole.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        if not folder.is_dir():
            raise InputError(f"{folder} is not there: run 'catimage sample' first.")
        try:
            arrays = load_file(folder / ARRAYS)
            texts = json.loads((folder / TEXTS).read_text())
            return cls(
                prompt_ids=texts["prompt_ids"],
                encoder=texts["encoder"],
                **{name: arrays[name] for name in FIELDS},
            )
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise InputError(
                f"{folder} does not hold whole embeddings ({error}): run 'catimage sample' again."
            ) from error


def in_batches(
    prompts: list[str], encode: Callable[[list[str]], Embeddings], size: int, progress: bool
) -> Embeddings:
    """Embeds prompts (at least one), ``size`` at once and those of like length together, since a
    batch is padded to its longest.
    """
    from tqdm import tqdm

    if len(prompts) <= size:
        return encode(prompts)
    order = sorted(prompts, key=len)
    starts = tqdm(
        range(0, len(order), size), "encoding prompts", disable=not progress, unit="batch"
    )
    return concatenated([encode(order[i : i + size]) for i in starts]).take(
        [prompt_id(p) for p in prompts]
    )


def concatenated(parts: list[Embeddings]) -> Embeddings:
    """Embeddings by one encoder, one after the other."""
    lengths = np.concatenate([np.diff(p.offsets) for p in parts])
    return Embeddings(
        [i for p in parts for i in p.prompt_ids],
        np.concatenate([p.pooled for p in parts]),
        np.concatenate([p.layers for p in parts]),
        np.concatenate([p.tokens for p in parts]),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.concatenate([p.cut for p in parts]),
        parts[0].encoder,
    )
