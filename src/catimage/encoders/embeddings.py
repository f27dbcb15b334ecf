"""Embeddings of prompts, and their storage in files. Token states are stored without padding,
because most prompts are short, and in half precision.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from catimage.common.arrays import Float32, Ints
from catimage.common.files import damage_reported, read_json
from catimage.common.hashing import file_digest
from catimage.data.prompts.identity import prompt_id
from catimage.errors import InputError
from catimage.workspace import replacing

if TYPE_CHECKING:
    import torch

ARRAYS_FILE, METADATA_FILE = "embeddings.safetensors", "prompts.json"
FIELDS = ("pooled", "layers", "tokens", "offsets", "cut")


@dataclass(frozen=True)
class Embeddings:
    """The output of a text encoder for some prompts.

    Attributes:
        prompt_ids: identifier of each prompt (:func:`~catimage.data.prompts.identity.prompt_id`).
        pooled: float32 (n_prompts, width), the embeddings of whole prompts. They have unit length,
            so that their inner products are cosine similarities.
        layers: float16 (n_prompts, n_layers, layer_width), the mean over the prompt's tokens of the
            input of the first layer and of the output of each layer.
        tokens: float16 (n_tokens, token_width), the last hidden states of all tokens, without
            padding.
        offsets: int64 (n_prompts + 1,); the tokens of prompt ``i`` are
            ``tokens[offsets[i]:offsets[i + 1]]``.
        cut: bool (n_prompts,), whether the prompt was truncated at the context length of the
            encoder.
        encoder: name of the text encoder.
    """

    prompt_ids: list[str]
    pooled: Float32
    layers: NDArray[np.float16]
    tokens: NDArray[np.float16]
    offsets: Ints
    cut: NDArray[np.bool_]
    encoder: str

    def __len__(self) -> int:
        return len(self.prompt_ids)

    @property
    def truncated(self) -> int:
        """The number of prompts that were truncated at the encoder's context length."""
        return int(self.cut.sum())

    @cached_property
    def _row(self) -> dict[str, int]:
        return {identifier: i for i, identifier in enumerate(self.prompt_ids)}

    def has(self, ids: list[str]) -> bool:
        """Return whether there are embeddings of all prompts with the given identifiers."""
        return all(i in self._row for i in ids)

    def take(self, ids: list[str]) -> Embeddings:
        """Return the embeddings of the prompts with the given identifiers, in the order of ``ids``.

        Raises:
            InputError: a prompt has no embedding.
        """
        missing = [i for i in ids if i not in self._row]
        if missing:
            raise InputError(
                f"data/embeddings/{self.encoder}: no embedding of {len(missing)} prompts (the first"
                f" is {missing[0]}). Run 'catimage sample' again."
            )
        rows = np.array([self._row[i] for i in ids], np.int64)
        lengths = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        positions = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Embeddings(
            list(ids),
            self.pooled[rows],
            self.layers[rows],
            self.tokens[positions],
            offsets,
            self.cut[rows],
            self.encoder,
        )

    def save(self, folder: Path) -> None:
        """Write the embeddings to ``folder`` atomically, replacing its content.

        The metadata contain the digest of the arrays, so that they identify the embeddings.
        """
        from safetensors.numpy import save_file

        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in FIELDS}
        with replacing(folder) as temporary:
            temporary.mkdir()
            with _rust_errors_as_os_errors():
                save_file(arrays, temporary / ARRAYS_FILE)
            metadata = {
                "encoder": self.encoder,
                "truncated": self.truncated,
                "digest": file_digest(temporary / ARRAYS_FILE),
                "prompt_ids": self.prompt_ids,
            }
            (temporary / METADATA_FILE).write_text(json.dumps(metadata, indent=0) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Embeddings:
        """Read embeddings written by :meth:`save`.

        Raises:
            InputError: the folder does not exist, or its files are missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        if not folder.is_dir():
            raise InputError(f"{folder}: folder not found. Run 'catimage sample' first.")
        metadata = read_json(folder / METADATA_FILE, "sample")
        with damage_reported(folder / ARRAYS_FILE, "sample", SafetensorError):
            arrays = load_file(folder / ARRAYS_FILE)
            return cls(
                prompt_ids=metadata["prompt_ids"],
                encoder=metadata["encoder"],
                **{name: arrays[name] for name in FIELDS},
            )


def encode_in_batches(
    prompts: list[str], encode: Callable[[list[str]], Embeddings], size: int, progress: bool
) -> Embeddings:
    """Return the embeddings of prompts, computed in batches of prompts of similar length, because a
    batch is padded to its longest prompt.

    Args:
        prompts: at least one prompt.
        encode: a function that returns the embeddings of one batch.
        size: the maximum number of prompts per batch.
        progress: whether to show a progress bar.

    Returns:
        The embeddings in the order of ``prompts``.
    """
    from tqdm import tqdm

    if len(prompts) <= size:
        return encode(prompts)
    order = sorted(prompts, key=len)
    starts = tqdm(
        range(0, len(order), size), "encoding prompts", disable=not progress, unit="batch"
    )
    embeddings = concatenate([encode(order[i : i + size]) for i in starts])
    return embeddings.take([prompt_id(p) for p in prompts])


def concatenate(parts: list[Embeddings]) -> Embeddings:
    """Return the concatenation of embeddings that the same encoder computed."""
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


def token_means(layers: Sequence[torch.Tensor], mask: torch.Tensor) -> NDArray[np.float16]:
    """Return the mean hidden state of each layer over each prompt's tokens, clipped to the range of
    half precision: (n_prompts, n_layers, width).

    Args:
        layers: hidden states (n_prompts, length, width) of each layer.
        mask: bool (n_prompts, length), True for tokens and False for padding.
    """
    import torch

    weights = mask.to(layers[0].dtype)
    weights = weights / weights.sum(1, keepdim=True)
    means = torch.stack([(states * weights[:, :, None]).sum(1) for states in layers], dim=1)
    limit = torch.finfo(torch.float16).max
    return np.asarray(means.clamp(-limit, limit).half().cpu().numpy())


@contextmanager
def _rust_errors_as_os_errors() -> Iterator[None]:
    """Raise an error of writing, such as of a full disk, as the OSError that Python would raise."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1]))) from error
