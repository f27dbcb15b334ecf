"""Text encoders of CLIP models, loaded by open_clip from the pool ``tiny`` (which is part of this
package), a folder, a repository on the Hugging Face hub, or open_clip's list of models.
"""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from threading import Lock
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from catimage.common.files import check_undamaged
from catimage.data.prompts.identity import prompt_id
from catimage.encoders.embeddings import Embeddings, encode_in_batches, token_means
from catimage.errors import InputError, error_summary, nearest
from catimage.params import EncoderParams

TINY = Path(__file__).parent.parent / "pools" / "tiny" / "clip"
"""The folder of the CLIP model of the pool ``tiny``, in the layout that open_clip reads with
``local-dir:``.
"""
LOCAL_PREFIX, HUB_PREFIX = "local-dir:", "hf-hub:"
BATCH_SIZE = 64
HUB_FILES = ["*.json", "*.txt", "*.model", "open_clip*.safetensors", "open_clip_pytorch_model.bin"]
"""Patterns of the files that are downloaded from a repository on the Hugging Face hub."""


class OpenClipEncoder:
    """A frozen CLIP text encoder in float32 on the CPU (CATImage paper, section 5.1).

    The outputs of the encoder are the last hidden states of the tokens, the pooled embedding of the
    prompt, and the mean hidden state of each layer.

    Args:
        spec: section ``encoder`` of params.yaml. ``model`` is ``tiny``, ``local-dir:FOLDER``,
            ``hf-hub:OWNER/NAME`` (at ``revision``), or the name of an open_clip model; in the last
            case, ``weights`` is a pretrained tag of the model or a file.

    Attributes:
        name: the name of the encoder.
        context: the maximum number of tokens per prompt.

    Raises:
        InputError: the model is unknown, its weights are not found, or its text encoder does not
            pool at the end token.
    """

    def __init__(self, spec: EncoderParams) -> None:
        self.name = spec.name
        model, self._tokenizer = load_clip(spec)
        model.visual = torch.nn.Identity()  # frees the image encoder, which is not used
        self._text = getattr(model, "text", model)  # open_clip's CLIP class is the text encoder
        self._end = _end_token(spec, self._text)
        self.context = int(self._text.context_length)
        self._tokenizer_lock = Lock()

    def encode(self, prompts: list[str], progress: bool = False) -> Embeddings:
        """Return the embeddings of at least one prompt; ``progress`` shows a progress bar.

        Except for rounding, the embedding of a prompt does not depend on the other prompts. Prompts
        longer than ``context`` tokens are truncated. Several threads may call this method.
        """
        return encode_in_batches(prompts, self._encode_batch, BATCH_SIZE, progress)

    @property
    def text_tower(self) -> torch.nn.Module:
        """The module that fine-tuning trains."""
        text_tower: torch.nn.Module = self._text
        return text_tower

    def differentiable_pooled(self, prompts: list[str]) -> torch.Tensor:
        """Return pooled embeddings (n_prompts, width) with gradients, on the device of the text
        tower. They are not scaled to unit length.
        """
        ids, lengths, _ = self._tokenize(prompts)
        device = self._text.positional_embedding.device
        states, _ = self._hidden_states(ids.to(device))
        return self._pool(states, lengths)

    def _pool(self, states: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return the projected states of the end tokens, (n_prompts, width)."""
        ends = states[torch.arange(len(states)), lengths - 1]
        projection = self._text.text_projection
        if isinstance(projection, torch.Tensor):
            return ends @ projection
        pooled: torch.Tensor = projection(ends)
        return pooled

    def count_tokens(self, prompts: list[str]) -> tuple[list[int], list[bool]]:
        """Return the number of tokens that are read of each prompt, and whether it is cut."""
        _, lengths, truncated = self._tokenize(prompts)
        return lengths.tolist(), truncated.tolist()

    @torch.inference_mode()
    def _encode_batch(self, prompts: list[str]) -> Embeddings:
        ids, lengths, truncated = self._tokenize(prompts)
        states, layers = self._hidden_states(ids)
        mask = torch.arange(states.shape[1]) < lengths[:, None]
        return Embeddings(
            prompt_ids=[prompt_id(p) for p in prompts],
            pooled=torch.nn.functional.normalize(self._pool(states, lengths), dim=-1).numpy(),
            layers=token_means(layers, mask),
            tokens=states[mask].half().numpy(),
            offsets=np.concatenate([[0], np.cumsum(lengths.numpy())]).astype(np.int64),
            cut=truncated,
            encoder=self.name,
        )

    def _hidden_states(self, ids: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the normalised last hidden states, and the states before the first block and after
        each block, all (n_prompts, length, width).

        ``ids`` need not be padded to the context length, as in open_clip's forward pass, because
        attention is causal: the state of a token does not depend on the tokens after it.
        """
        text, length = self._text, ids.shape[1]
        first = text.token_embedding(ids) + text.positional_embedding[:length]
        last, intermediates = text.transformer.forward_intermediates(
            first, attn_mask=text.attn_mask[:length, :length]
        )
        return text.ln_final(last), [first, *intermediates]

    def _lengths(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the number of tokens up to and including the first end token, (n_prompts,). Later
        end tokens are padding in some tokenizers.
        """
        ends = ids if self._end is None else (ids == self._end).int()
        return ends.argmax(1) + 1

    def _tokenize(self, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor, NDArray[np.bool_]]:
        """Return token ids, truncated to ``context`` tokens and to the longest prompt.

        The tokenizer is called once, with room for one more token than ``context``, which shows
        which prompts are truncated. Its settings never change, and a lock protects it, because the
        tokenizers of Hugging Face keep the settings of truncation in a state that all threads
        share.

        Returns:
            The ids (n_prompts, length), the number of tokens of each prompt (n_prompts,), and the
            mask of the prompts that were truncated (n_prompts,).
        """
        with self._tokenizer_lock:
            ids = self._tokenizer(prompts, context_length=self.context + 1)
        lengths = self._lengths(ids)
        truncated = lengths > self.context
        ids[truncated, self.context - 1] = ids[truncated, self.context]  # the end token
        lengths = lengths.clamp(max=self.context)
        return ids[:, : int(lengths.max())], lengths, truncated.numpy()


def load_clip(spec: EncoderParams) -> tuple[Any, Any]:
    """Return the frozen CLIP model that ``spec`` describes (text and image encoder), and its
    tokenizer.

    Raises:
        InputError: the model is unknown, or its weights are not found.
    """
    source = _open_clip_name(spec)
    try:
        model = open_clip.create_model(
            source, pretrained=spec.weights or None, require_pretrained=True
        )
        tokenizer = open_clip.get_tokenizer(source)
    except (OSError, RuntimeError, ValueError, SafetensorError, UnpicklingError) as error:
        check_undamaged(source.removeprefix(LOCAL_PREFIX))
        raise InputError(
            f"encoder: cannot load {source} ({error_summary(error)}). Check encoder.model and"
            " encoder.weights."
        ) from error
    return model.eval().requires_grad_(False), tokenizer


def check_open_clip_name(spec: EncoderParams) -> None:
    """Check that open_clip has a model ``spec.model``, and that ``spec.weights`` is a pretrained
    tag of this model or a file.

    Raises:
        InputError: open_clip has no such model or tag, and the message suggests a similar name; or
            the weights were trained with another activation function than that of the model.
    """
    if open_clip.get_model_config(spec.model) is None:
        suggestion = nearest(spec.model, ["tiny", *open_clip.list_models()])
        raise InputError(
            f"encoder.model: open_clip has no model {spec.model!r}{suggestion}. Use a model of"
            " open_clip, 'tiny', or local-dir:FOLDER."
        )
    tags = open_clip.list_pretrained_tags_by_model(spec.model)
    if spec.weights not in tags and not Path(spec.weights or ".").is_file():
        suggestion = nearest(spec.weights, tags)
        raise InputError(
            f"encoder.weights: {spec.weights!r} is neither a file nor a pretrained tag of"
            f" {spec.model}{suggestion}. Use a file or one of {', '.join(tags)}."
        )
    name = f"{spec.model}-quickgelu"
    trained_with = open_clip.get_pretrained_cfg(spec.model, spec.weights).get("quick_gelu", False)
    if trained_with and spec.weights in open_clip.list_pretrained_tags_by_model(name):
        raise InputError(
            f"encoder.model: the weights {spec.weights!r} were trained with the activation"
            f" QuickGELU, which {spec.model!r} does not use. Set it to {name!r}."
        )


def _open_clip_name(spec: EncoderParams) -> str:
    """Return the name that open_clip loads the model by. If a revision of a repository on the
    Hugging Face hub is set, the revision is downloaded, and the name is that of the local folder.
    """
    if spec.model == "tiny":
        return f"{LOCAL_PREFIX}{TINY}"
    if spec.model.startswith(HUB_PREFIX) and spec.revision:
        from huggingface_hub import snapshot_download

        try:
            return LOCAL_PREFIX + snapshot_download(
                spec.model.removeprefix(HUB_PREFIX),
                revision=spec.revision,
                allow_patterns=HUB_FILES,
            )
        except (OSError, ValueError) as error:
            raise InputError(
                f"encoder: cannot download {spec.model} at revision {spec.revision!r}"
                f" ({error_summary(error)}). Check encoder.model, encoder.revision and the network."
            ) from error
    if not spec.model.startswith((LOCAL_PREFIX, HUB_PREFIX)):
        check_open_clip_name(spec)
    return spec.model


def _end_token(spec: EncoderParams, text: Any) -> int | None:
    """Return the id of the end token, whose state is the pooled embedding, or None if the end token
    is the token with the largest id in the prompt.

    Raises:
        InputError: the text encoder does not pool at an end token.
    """
    pool_type = getattr(text, "text_pool_type", getattr(text, "pool_type", None))
    causal = getattr(text, "attn_mask", None) is not None and getattr(text, "cls_emb", None) is None
    if pool_type not in ("argmax", "eos") or not causal or text.text_projection is None:
        raise InputError(
            f"encoder.model: the text encoder of {spec.model} does not pool at an end token. Use a"
            " CLIP model."
        )
    return None if pool_type == "argmax" else int(getattr(text, "text_eos_id", None) or text.eos_id)
