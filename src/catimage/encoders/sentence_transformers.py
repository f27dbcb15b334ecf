"""Text encoders of the sentence-transformers library, by name or from a folder: they know no images, but much language."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from catimage.encoders.embeddings import Embeddings, concatenated
from catimage.errors import InputError
from catimage.params import Encoder
from catimage.tables import prompt_id

BATCH = 64


class SentenceTransformerEncoder:
    """A frozen sentence-transformers model in float32, on the CPU.

    A model without token states (such as static embeddings) gives its pooled embedding as the one token of a prompt.

    Args:
        spec: ``model`` is ``sentence-transformers:NAME_OR_FOLDER``, ``revision`` that of a NAME on the hub; there are no ``weights``
            to choose from.

    Raises:
        InputError: sentence-transformers is not installed, there is no such model, or weights are named.
    """

    def __init__(self, spec: Encoder) -> None:
        self.name = spec.name
        self._model = _load(spec)
        most = self._model.max_seq_length
        self.context = int(most) if most and np.isfinite(most) else sys.maxsize

    def encode(self, prompts: list[str], progress: bool = False) -> Embeddings:
        """Embeds prompts (at least one); a prompt longer than ``context`` tokens is cut there."""
        parts = range(0, len(prompts), BATCH)
        return concatenated(
            [self._batch(prompts[i : i + BATCH]) for i in tqdm(parts, "encoding prompts", disable=not progress, unit="batch")]
        )

    @property
    def tower(self) -> Any:
        """What a fine-tuned estimator trains (and then no longer is frozen)."""
        return self._model

    def pooled(self, prompts: list[str]) -> Any:
        """The model's sentence embeddings (n, width), differentiable, on the tower's device."""
        tokens = self._model.tokenize(prompts)
        device = next(self._model.parameters()).device
        tokens = {key: value.to(device) if hasattr(value, "to") else value for key, value in tokens.items()}
        return self._model(tokens)["sentence_embedding"]

    def _batch(self, prompts: list[str]) -> Embeddings:
        rows = self._model.encode(prompts, batch_size=len(prompts), output_value=None, show_progress_bar=False, convert_to_numpy=False)
        pooled = np.stack([_array(row["sentence_embedding"]) for row in rows])
        pooled /= np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
        tokens = [_tokens(row, one) for row, one in zip(rows, pooled, strict=True)]
        offsets = np.concatenate([[0], np.cumsum([len(t) for t in tokens])]).astype(np.int64)
        states = np.concatenate(tokens).astype(np.float16)
        return Embeddings([prompt_id(p) for p in prompts], pooled, states, offsets, self._cut(prompts, np.diff(offsets)), self.name)

    def _cut(self, prompts: list[str], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the prompts that fill the context would go on: (n,)."""
        cut = lengths >= self.context
        for i in np.flatnonzero(cut):
            whole = self._model.tokenizer(prompts[i], truncation=False, verbose=False)["input_ids"]
            cut[i] = len(whole) > self.context
        return cut


def _tokens(row: dict[str, Any], pooled: NDArray[np.float32]) -> NDArray[np.float32]:
    """The states of a prompt's tokens without padding (length, width)."""
    if row.get("token_embeddings") is None:
        return pooled[None]
    states = _array(row["token_embeddings"])
    return np.asarray(states[_array(row["attention_mask"]).astype(bool)[: len(states)]], np.float32)


def _array(tensor: Any) -> NDArray[Any]:
    return np.asarray(tensor.detach().cpu().numpy())


def folder_of(spec: Encoder) -> str:
    """The NAME_OR_FOLDER of ``sentence-transformers:NAME_OR_FOLDER``."""
    return spec.model.partition(":")[2]


def _load(spec: Encoder) -> Any:
    if spec.weights:
        mend = "leave it out, or name another model"
        raise InputError(f"encoder.weights {spec.weights!r}: a sentence-transformers model has no weights to choose from: {mend}.")
    try:
        from sentence_transformers import SentenceTransformer
    except ModuleNotFoundError as error:
        raise InputError(f"encoder.model {spec.model}: sentence-transformers is not installed: pip install 'catimage[text]'.") from error
    source = folder_of(spec)
    if source.startswith((".", "/", "~")) and not Path(source).expanduser().is_dir():
        raise InputError(f"encoder.model: there is no folder {source!r}: name one that sentence-transformers saved.")
    try:
        model = SentenceTransformer(
            str(Path(source).expanduser()) if source.startswith("~") else source, device="cpu", revision=spec.revision or None
        )
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".:")
        raise InputError(f"encoder: {spec.model} cannot be loaded ({said}): check encoder.model and encoder.revision.") from error
    return model.float().eval().requires_grad_(False)
