"""Text encoders of the sentence-transformers library. They were trained on text without images, and
on more text than CLIP.
"""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catimage.common.arrays import Ints
from catimage.common.files import check_undamaged
from catimage.data.prompts.identity import prompt_id
from catimage.encoders.embeddings import Embeddings, encode_in_batches, token_means
from catimage.errors import InputError, error_summary
from catimage.params import EncoderParams

BATCH_SIZE = 64


class SentenceTransformerEncoder:
    """A frozen sentence-transformers model in float32 on the CPU.

    For a model without token states, for example a model of static embeddings, the pooled embedding
    is the only token and the only layer of a prompt.

    Args:
        spec: section ``encoder`` of params.yaml. ``model`` is
            ``sentence-transformers:NAME_OR_FOLDER``; ``revision`` is a revision of the model NAME
            on the Hugging Face hub; ``weights`` must be empty.

    Attributes:
        name: the name of the encoder.
        context: the maximum number of tokens per prompt.

    Raises:
        InputError: sentence-transformers is not installed, the model is not found, or ``weights``
            is set.
    """

    def __init__(self, spec: EncoderParams) -> None:
        self.name = spec.name
        self._model = _load(spec)
        self._tokenizer_lock = Lock()  # calls of the tokenizer change its settings
        limit = self._model.max_seq_length
        self.context = int(limit) if limit and np.isfinite(limit) else sys.maxsize

    def encode(self, prompts: list[str], progress: bool = False) -> Embeddings:
        """Return the embeddings of at least one prompt; ``progress`` shows a progress bar.

        Prompts longer than ``context`` tokens are truncated. Several threads may call this method.
        """
        return encode_in_batches(prompts, self._encode_batch, BATCH_SIZE, progress)

    @property
    def text_tower(self) -> Any:
        """The module that fine-tuning trains."""
        return self._model

    def differentiable_pooled(self, prompts: list[str]) -> Any:
        """Return pooled embeddings (n_prompts, width) with gradients, on the device of the text
        tower. They are not scaled to unit length.
        """
        return self._forward(prompts)["sentence_embedding"]

    def _forward(self, prompts: list[str]) -> dict[str, Any]:
        """Return the model's outputs by name. If the model has a default instruction, it precedes
        each prompt.
        """
        model = self._model
        name = model.default_prompt_name
        instruction = model.prompts.get(name) if name else None
        device = next(model.parameters()).device
        with self._tokenizer_lock:
            inputs = model.preprocess(prompts, prompt=instruction)
        features = {k: v.to(device) if hasattr(v, "to") else v for k, v in inputs.items()}
        output: dict[str, Any] = model(features)
        pooled = output["sentence_embedding"][:, : model.truncate_dim]
        return output | {"sentence_embedding": pooled}

    def count_tokens(self, prompts: list[str]) -> tuple[list[int], list[bool]]:
        """Return the number of tokens that are read of each prompt, and whether it is cut."""
        embeddings = self._encode_batch(prompts)  # the models differ in what they count
        return np.diff(embeddings.offsets).tolist(), embeddings.cut.tolist()

    def _encode_batch(self, prompts: list[str]) -> Embeddings:
        import torch

        with torch.inference_mode():
            output = self._forward(prompts)
            pooled = torch.nn.functional.normalize(output["sentence_embedding"], dim=-1)
            if "token_embeddings" not in output:  # the model has no token states
                output |= {
                    "token_embeddings": pooled[:, None],
                    "attention_mask": torch.ones(len(prompts), 1),
                }
            states, mask = output["token_embeddings"], output["attention_mask"].bool()
            layers = token_means(output.get("all_layer_embeddings", [states]), mask)
        lengths = mask.sum(1).numpy()
        return Embeddings(
            prompt_ids=[prompt_id(p) for p in prompts],
            pooled=pooled.numpy(),
            layers=layers,
            tokens=states[mask].half().numpy(),
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            cut=self._truncated(prompts, lengths),
            encoder=self.name,
        )

    def _truncated(self, prompts: list[str], lengths: Ints) -> NDArray[np.bool_]:
        """Return the mask of the prompts that have more than ``context`` tokens, (n_prompts,)."""
        truncated = lengths >= self.context
        for i in np.flatnonzero(truncated):
            with self._tokenizer_lock:
                encoded = self._model.tokenizer(prompts[i], truncation=False, verbose=False)
            truncated[i] = len(encoded["input_ids"]) > self.context
        return truncated


def _load(spec: EncoderParams) -> Any:
    """Return the frozen model, which also returns the hidden states of all layers if it has any.

    Raises:
        InputError: as for :class:`SentenceTransformerEncoder`.
    """
    _check(spec)
    try:
        from sentence_transformers import SentenceTransformer
        from transformers import PreTrainedModel
    except ModuleNotFoundError as error:
        raise InputError(
            f"encoder.model: {spec.model!r} needs the library sentence-transformers, which is not"
            " installed. Run pip install 'catimage[text]'."
        ) from error
    source = _name_or_folder(spec)
    try:
        model = SentenceTransformer(
            str(Path(source).expanduser()) if source.startswith("~") else source,
            device="cpu",
            revision=spec.revision or None,
        )
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        check_undamaged(source)
        raise InputError(
            f"encoder: cannot load {spec.model} ({error_summary(error)}). Check encoder.model and"
            " encoder.revision."
        ) from error
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            module.config.output_hidden_states = True
    return model.float().eval().requires_grad_(False)


def _check(spec: EncoderParams) -> None:
    """Check the settings of the encoder, without using sentence-transformers.

    Raises:
        InputError: ``weights`` is set, or the folder does not exist.
    """
    if spec.weights:
        raise InputError(
            f"encoder.weights: {spec.weights!r} is set, but the weights of sentence-transformers"
            " models cannot be selected. Remove encoder.weights, or use another model."
        )
    source = _name_or_folder(spec)
    if source.startswith((".", "/", "~")) and not Path(source).expanduser().is_dir():
        raise InputError(
            f"encoder.model: folder {source!r} not found. Use a folder saved by"
            " sentence-transformers."
        )


def _name_or_folder(spec: EncoderParams) -> str:
    """Return ``spec.model`` without the prefix ``sentence-transformers:``."""
    return spec.model.partition(":")[2]
