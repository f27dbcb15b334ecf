"""Text encoders of the sentence-transformers library, by name or from a folder: they know no
images, but much language.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catimage.data.prompts.identity import prompt_id
from catimage.encoders.embeddings import Embeddings, in_batches
from catimage.errors import InputError
from catimage.params import Encoder

BATCH = 64


class SentenceTransformerEncoder:
    """A frozen sentence-transformers model in float32, on the CPU.

    A model without token states (such as static embeddings) gives its pooled embedding as the one
    token of a prompt and its one layer.

    Args:
        spec: ``model`` is ``sentence-transformers:NAME_OR_FOLDER``, ``revision`` that of a NAME on
            the hub; there are no ``weights`` to choose from.

    Raises:
        InputError: sentence-transformers is not installed, there is no such model, or weights are
            named.
    """

    def __init__(self, spec: Encoder) -> None:
        self.name = spec.name
        self._model = _load(spec)
        most = self._model.max_seq_length
        self.context = int(most) if most and np.isfinite(most) else sys.maxsize

    def encode(self, prompts: list[str], progress: bool = False) -> Embeddings:
        """Embeds prompts (at least one); a prompt longer than ``context`` tokens is cut there."""
        return in_batches(prompts, self._batch, BATCH, progress)

    @property
    def tower(self) -> Any:
        """What a fine-tuned estimator trains (and then no longer is frozen)."""
        return self._model

    def pooled(self, prompts: list[str]) -> Any:
        """The model's sentence embeddings (n, width), differentiable, on the tower's device."""
        return self._features(prompts)["sentence_embedding"]

    def _features(self, prompts: list[str]) -> dict[str, Any]:
        """What the modules of the model make of the prompts, with the words before each that the
        model may ask for.
        """
        model = self._model
        before = model.prompts.get(model.default_prompt_name) if model.default_prompt_name else None
        device = next(model.parameters()).device
        features = {
            k: v.to(device) if hasattr(v, "to") else v
            for k, v in model.preprocess(prompts, prompt=before).items()
        }
        found: dict[str, Any] = model(features)
        return found | {"sentence_embedding": found["sentence_embedding"][:, : model.truncate_dim]}

    def _batch(self, prompts: list[str]) -> Embeddings:
        import torch

        from catimage.encoders.layers import token_means

        with torch.inference_mode():
            found = self._features(prompts)
            pooled = torch.nn.functional.normalize(found["sentence_embedding"], dim=-1)
            if "token_embeddings" not in found:  # the model has but one state for a prompt
                found |= {
                    "token_embeddings": pooled[:, None],
                    "attention_mask": torch.ones(len(prompts), 1),
                }
            states, there = found["token_embeddings"], found["attention_mask"].bool()
            layers = token_means(found.get("all_layer_embeddings", [states]), there)
        lengths = there.sum(1).numpy()
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        tokens, cut = states[there].half().numpy(), self._cut(prompts, lengths)
        return Embeddings(
            [prompt_id(p) for p in prompts], pooled.numpy(), layers, tokens, offsets, cut, self.name
        )

    def _cut(self, prompts: list[str], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the prompts that fill the context would go on: (n,)."""
        cut = lengths >= self.context
        for i in np.flatnonzero(cut):
            whole = self._model.tokenizer(prompts[i], truncation=False, verbose=False)["input_ids"]
            cut[i] = len(whole) > self.context
        return cut


def folder_of(spec: Encoder) -> str:
    """The NAME_OR_FOLDER of ``sentence-transformers:NAME_OR_FOLDER``."""
    return spec.model.partition(":")[2]


def _load(spec: Encoder) -> Any:
    if spec.weights:
        mend = "leave it out, or name another model"
        raise InputError(
            f"encoder.weights {spec.weights!r}: a sentence-transformers model has no weights to"
            f" choose from: {mend}."
        )
    try:
        from sentence_transformers import SentenceTransformer
        from transformers import PreTrainedModel
    except ModuleNotFoundError as error:
        raise InputError(
            f"encoder.model {spec.model}: sentence-transformers is not installed: pip install"
            " 'catimage[text]'."
        ) from error
    source = folder_of(spec)
    if source.startswith((".", "/", "~")) and not Path(source).expanduser().is_dir():
        raise InputError(
            f"encoder.model: there is no folder {source!r}: name one that sentence-transformers"
            " saved."
        )
    try:
        model = SentenceTransformer(
            str(Path(source).expanduser()) if source.startswith("~") else source,
            device="cpu",
            revision=spec.revision or None,
        )
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".:")
        raise InputError(
            f"encoder: {spec.model} cannot be loaded ({said}): check encoder.model and"
            " encoder.revision."
        ) from error
    for body in (part for part in model.modules() if isinstance(part, PreTrainedModel)):
        body.config.output_hidden_states = True
    return model.float().eval().requires_grad_(False)
