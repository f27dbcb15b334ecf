"""Text towers of open_clip's models: the embedded CLIP, a folder, or any CLIP that open_clip knows
by name.
"""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from catimage.data.prompts.identity import prompt_id
from catimage.encoders.embeddings import Embeddings, in_batches
from catimage.encoders.layers import token_means
from catimage.errors import InputError, nearest
from catimage.params import Encoder

TINY = Path(__file__).parent.parent / "pools" / "tiny" / "clip"
"""The CLIP of the embedded pool, in open_clip's ``local-dir:`` layout."""
LOCAL, HUB = "local-dir:", "hf-hub:"
BATCH = 64
FILES = ["*.json", "*.txt", "*.model", "open_clip*.safetensors", "open_clip_pytorch_model.bin"]


class OpenClipEncoder:
    """A frozen text tower in float32, on the CPU: its last hidden states (CATImage 5.1), its pooled
    embedding, and its layers' means.

    Args:
        spec: ``model`` is ``tiny``, ``local-dir:FOLDER``, ``hf-hub:OWNER/NAME`` (at ``revision``),
            or a name that open_clip knows, with ``weights`` a tag of it or a file.

    Raises:
        InputError: an unknown model, weights that are not there, or a text tower that does not pool
            at its end token.
    """

    def __init__(self, spec: Encoder) -> None:
        self.name = spec.name
        model, self._tokenizer = load_clip(spec)
        model.visual = torch.nn.Identity()  # only the text tower is needed
        self._text = getattr(model, "text", model)  # older models are one themselves
        self._end = _end_token(spec, self._text)
        self.context = int(self._text.context_length)

    def encode(self, prompts: list[str], progress: bool = False) -> Embeddings:
        """Embeds prompts (at least one), the same in any batch but for rounding; a prompt longer
        than ``context`` tokens is cut there.
        """
        return in_batches(prompts, self._batch, BATCH, progress)

    @property
    def tower(self) -> torch.nn.Module:
        """What a fine-tuned estimator trains (and then no longer is frozen)."""
        tower: torch.nn.Module = self._text
        return tower

    def pooled(self, prompts: list[str]) -> torch.Tensor:
        """The pooled embeddings, not of unit length, (n, width), differentiable, on the tower's
        device.
        """
        ids = self._tokenizer(prompts)
        lengths = self._lengths(ids)
        states, _ = self._states(
            ids[:, : int(lengths.max())].to(self._text.positional_embedding.device)
        )
        return self._pooled(states, lengths)

    def _pooled(self, states: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        ends = states[torch.arange(len(states)), lengths - 1]
        projection = self._text.text_projection
        pooled: torch.Tensor = (
            ends @ projection if isinstance(projection, torch.Tensor) else projection(ends)
        )
        return pooled

    @torch.inference_mode()
    def _batch(self, prompts: list[str]) -> Embeddings:
        ids = self._tokenizer(prompts)
        lengths = self._lengths(ids)
        states, layers = self._states(ids[:, : int(lengths.max())])
        pooled = self._pooled(states, lengths)
        there = torch.arange(states.shape[1]) < lengths[:, None]
        return Embeddings(
            [prompt_id(p) for p in prompts],
            torch.nn.functional.normalize(pooled, dim=-1).numpy(),
            token_means(layers, there),
            states[there].half().numpy(),
            np.concatenate([[0], np.cumsum(lengths.numpy())]).astype(np.int64),
            self._cut(prompts, lengths),
            self.name,
        )

    def _states(self, ids: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The last hidden states, normalised, and those before the first block and after each: (n,
        length, width).

        The tower is causal, so that a token's state does not depend on what follows: padding that
        no prompt of a batch needs is not computed, which open_clip's own pass would.
        """
        text, length = self._text, ids.shape[1]
        first = text.token_embedding(ids) + text.positional_embedding[:length]
        last, between = text.transformer.forward_intermediates(
            first, attn_mask=text.attn_mask[:length, :length]
        )
        return text.ln_final(last), [first, *between]

    def _lengths(self, ids: torch.Tensor) -> torch.Tensor:
        """Tokens up to the end token, which pads as well in some tokenizers: (n,)."""
        ends = ids if self._end is None else (ids == self._end).int()
        return ends.argmax(1) + 1

    def _cut(self, prompts: list[str], lengths: torch.Tensor) -> NDArray[np.bool_]:
        """Which of the prompts that fill the context would go on: (n,)."""
        cut: NDArray[np.bool_] = (lengths == self.context).numpy()
        if cut.any():
            full = [p for p, filled in zip(prompts, cut, strict=True) if filled]
            cut[cut] = (
                self._lengths(self._tokenizer(full, context_length=self.context + 1)) > self.context
            ).numpy()
        return cut


def _source(spec: Encoder) -> str:
    """The name that open_clip is given; a hub's repository is fetched at its revision, and then is
    a folder.
    """
    if spec.model == "tiny":
        return f"{LOCAL}{TINY}"
    if spec.model.startswith(HUB) and spec.revision:
        from huggingface_hub import snapshot_download

        try:
            return LOCAL + snapshot_download(
                spec.model.removeprefix(HUB), revision=spec.revision, allow_patterns=FILES
            )
        except (OSError, ValueError) as error:
            raise InputError(
                f"encoder: {spec.model} at revision {spec.revision!r} cannot be fetched"
                f" ({_line(error)})."
            ) from error
    if not spec.model.startswith((LOCAL, HUB)):
        check_name(spec)
    return spec.model


def check_name(spec: Encoder) -> None:
    """Raises InputError, with the nearest known name, unless open_clip has a model of that name."""
    if open_clip.get_model_config(spec.model) is None:
        near = nearest(spec.model, ["tiny", *open_clip.list_models()])
        raise InputError(
            f"encoder.model {spec.model!r} is not known to open_clip{near}: name one of its models,"
            " tiny, or local-dir:FOLDER."
        )
    tags = open_clip.list_pretrained_tags_by_model(spec.model)
    if spec.weights not in tags and not Path(spec.weights or ".").is_file():
        near = nearest(spec.weights, tags)
        raise InputError(
            f"encoder.weights {spec.weights!r} is no file, and no tag of {spec.model}{near}: its"
            f" tags are {', '.join(tags)}."
        )


def load_clip(spec: Encoder) -> tuple[Any, Any]:
    """The frozen model of ``spec``, both towers, and its tokenizer.

    Raises:
        InputError: an unknown model, or weights that are not there.
    """
    source = _source(spec)
    try:
        model = open_clip.create_model(
            source, pretrained=spec.weights or None, require_pretrained=True
        )
        tokenizer = open_clip.get_tokenizer(source)
    except (OSError, RuntimeError, ValueError, SafetensorError, UnpicklingError) as error:
        raise InputError(
            f"encoder: {source} cannot be loaded ({_line(error)}): check encoder.model and"
            " encoder.weights."
        ) from error
    return model.eval().requires_grad_(False), tokenizer


def _end_token(spec: Encoder, text: Any) -> int | None:
    """The id of the token at which the text tower pools, or None where that is the largest id of a
    prompt (the first such).
    """
    pooled = getattr(text, "text_pool_type", getattr(text, "pool_type", None))
    causal = getattr(text, "attn_mask", None) is not None and getattr(text, "cls_emb", None) is None
    if pooled not in ("argmax", "eos") or not causal or text.text_projection is None:
        raise InputError(
            f"encoder.model {spec.model}: its text tower does not pool at an end token: name a CLIP"
            " model."
        )
    return None if pooled == "argmax" else int(getattr(text, "text_eos_id", None) or text.eos_id)


def _line(error: Exception) -> str:
    """The first line of an error of a library."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".:")
