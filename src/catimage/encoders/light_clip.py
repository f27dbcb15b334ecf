"""The text encoder of a CLIP model in numpy, for servers: no torch, open_clip and transformers,
whose import takes about 10 s and 500 MB.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from catimage.common.arrays import Float32, Ints
from catimage.common.files import damage_reported
from catimage.data.prompts.identity import prompt_id
from catimage.encoders.clip_tokenizer import ClipTokenizer, has_clip_tokenizer
from catimage.encoders.embeddings import Embeddings, encode_in_batches
from catimage.params import EncoderParams

TINY = Path(__file__).parent.parent / "pools" / "tiny" / "clip"
LOCAL_PREFIX = "local-dir:"
CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
BATCH_SIZE = 64
_TEXT_KEYS = {"context_length", "vocab_size", "width", "heads", "layers", "hf_tokenizer_name"}
"""The keys of ``text_cfg`` that are implemented; models with other keys are left to open_clip."""
_MODEL_KEYS = {"embed_dim", "vision_cfg", "text_cfg"}
_EPSILON, _GELU_ROWS = 1e-5, 16
_ERFC = [c / 2 for c in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)]
"""Coefficients of the approximation of half the complementary error function, highest first."""


def light_folder(spec: EncoderParams) -> Path | None:
    """Return the folder of a text encoder that :class:`LightClipEncoder` can read; None otherwise.

    It can read the embedded CLIP and folders of open_clip (``local-dir:FOLDER``) with weights in
    safetensors, CLIP's own text encoder, and CLIP's tokenizer.
    """
    folder = Path(spec.model.removeprefix(LOCAL_PREFIX)) if spec.model != "tiny" else TINY
    local = spec.model == "tiny" or spec.model.startswith(LOCAL_PREFIX)
    files = local and all((folder / name).is_file() for name in (CONFIG, WEIGHTS))
    if not files or spec.weights or not has_clip_tokenizer(folder):
        return None
    model = json.loads((folder / CONFIG).read_text()).get("model_cfg", {})
    plain = model.keys() <= _MODEL_KEYS and model.get("text_cfg", {}).keys() <= _TEXT_KEYS
    return folder if plain and "hf_tokenizer_name" in model["text_cfg"] else None


@dataclass(frozen=True)
class _Block:
    """The weights of one transformer block; matrices are (inputs, outputs)."""

    ln_1: tuple[Float32, Float32]
    qkv: tuple[Float32, Float32]
    out: tuple[Float32, Float32]
    ln_2: tuple[Float32, Float32]
    fc: tuple[Float32, Float32]
    proj: tuple[Float32, Float32]


class LightClipEncoder:
    """A frozen CLIP text encoder in float32, with the outputs of
    :class:`~catimage.encoders.open_clip.OpenClipEncoder` up to rounding.

    Threads may share it.

    Args:
        spec: section ``encoder`` of params.yaml.
        folder: the folder from :func:`light_folder`.

    Attributes:
        name: the name of the encoder.
        context: the maximum number of tokens per prompt.

    Raises:
        InputError: a file is damaged.
    """

    def __init__(self, spec: EncoderParams, folder: Path) -> None:
        from safetensors import SafetensorError, safe_open

        config = json.loads((folder / CONFIG).read_text())["model_cfg"]["text_cfg"]
        self.name, self.context = spec.name, int(config["context_length"])
        self._heads = int(config["heads"])
        with damage_reported(folder / WEIGHTS, "sample", SafetensorError):
            with safe_open(str(folder / WEIGHTS), "numpy") as stored:
                names = [key for key in stored.keys() if not key.startswith("visual.")]  # noqa: SIM118
                weights = {key: stored.get_tensor(key).astype(np.float32) for key in names}
            self._tokens = weights["token_embedding.weight"]
            self._positions = weights["positional_embedding"]
            self._ln_final = _norm(weights, "ln_final")
            self._projection = weights["text_projection"]
            self._blocks = [_block(weights, i) for i in range(int(config["layers"]))]
        self._tokenizer = ClipTokenizer(folder, self.context)

    def encode(self, prompts: list[str], progress: bool = False) -> Embeddings:
        """Return the embeddings of at least one prompt; ``progress`` shows a progress bar."""
        return encode_in_batches(prompts, self._encode_batch, BATCH_SIZE, progress)

    def count_tokens(self, prompts: list[str]) -> tuple[list[int], list[bool]]:
        """Return the number of tokens that are read of each prompt, and whether it is cut."""
        rows, truncated = self._tokenizer.encode(prompts)
        return [len(ids) for ids in rows], truncated

    def _encode_batch(self, prompts: list[str]) -> Embeddings:
        rows, truncated = self._tokenizer.encode(prompts)
        lengths = np.array([len(ids) for ids in rows])
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        positions = np.concatenate([np.arange(n) for n in lengths])
        x = self._tokens[np.concatenate(rows)] + self._positions[positions]
        layers = [_means(x, offsets, lengths)]
        prompt = np.repeat(np.arange(len(rows)), lengths)
        for block in self._blocks:
            x = x + self._attention(_layer_norm(x, block.ln_1), block, prompt, positions)
            activations = _gelu(_linear(_layer_norm(x, block.ln_2), block.fc))
            x = x + _linear(activations, block.proj)
            layers.append(_means(x, offsets, lengths))
        states = _layer_norm(x, self._ln_final)
        pooled = states[offsets[1:] - 1] @ self._projection
        limit = float(np.finfo(np.float16).max)
        return Embeddings(
            prompt_ids=[prompt_id(p) for p in prompts],
            pooled=pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12),
            layers=np.stack(layers, axis=1).clip(-limit, limit).astype(np.float16),
            tokens=states.astype(np.float16),
            offsets=offsets,
            cut=np.array(truncated),
            encoder=self.name,
        )

    def _attention(self, x: Float32, block: _Block, prompt: Ints, position: Ints) -> Float32:
        """Return the causal self-attention of packed tokens, (n_tokens, width).

        Args:
            x: the states of all tokens, without padding, (n_tokens, width).
            block: the weights.
            prompt: the prompt of each token, (n_tokens,).
            position: its position in the prompt, (n_tokens,).
        """
        n, length, width = int(prompt[-1]) + 1, int(position.max()) + 1, x.shape[1]
        qkv = np.zeros((n, length, 3 * width), np.float32)
        qkv[prompt, position] = _linear(x, block.qkv)
        q, k, v = (
            part.reshape(n, length, self._heads, -1).transpose(0, 2, 1, 3)
            for part in np.split(qkv, 3, axis=2)
        )
        scores = q @ k.transpose(0, 1, 3, 2) * np.float32(q.shape[-1] ** -0.5)
        scores += np.triu(np.full((length, length), -np.inf, np.float32), 1)
        scores = np.exp(scores - scores.max(axis=3, keepdims=True))
        mixed = (scores / scores.sum(axis=3, keepdims=True)) @ v
        packed = mixed.transpose(0, 2, 1, 3).reshape(n, length, width)[prompt, position]
        return _linear(packed, block.out)


def _block(weights: dict[str, Float32], number: int) -> _Block:
    name = f"transformer.resblocks.{number}"
    attention = weights[f"{name}.attn.in_proj_weight"], weights[f"{name}.attn.in_proj_bias"]
    return _Block(
        _norm(weights, f"{name}.ln_1"),
        (np.ascontiguousarray(attention[0].T), attention[1]),
        _dense(weights, f"{name}.attn.out_proj"),
        _norm(weights, f"{name}.ln_2"),
        _dense(weights, f"{name}.mlp.c_fc"),
        _dense(weights, f"{name}.mlp.c_proj"),
    )


def _dense(weights: dict[str, Float32], name: str) -> tuple[Float32, Float32]:
    return np.ascontiguousarray(weights[f"{name}.weight"].T), weights[f"{name}.bias"]


def _norm(weights: dict[str, Float32], name: str) -> tuple[Float32, Float32]:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def _linear(x: Float32, layer: tuple[Float32, Float32]) -> Float32:
    result: Float32 = x @ layer[0] + layer[1]
    return result


def _layer_norm(x: Float32, layer: tuple[Float32, Float32]) -> Float32:
    centred = x - x.mean(axis=1, keepdims=True)
    variance = (centred**2).mean(axis=1, keepdims=True)
    scaled: Float32 = centred / np.sqrt(variance + np.float32(_EPSILON)) * layer[0] + layer[1]
    return scaled


def _gelu(x: Float32) -> Float32:
    """Return the Gaussian error linear unit of x, in blocks that fit in the cache of a core.

    ``gelu(x) = max(x, 0) - |x| * erfc(|x| / sqrt(2)) / 2``, with the approximation 7.1.26 of
    Abramowitz and Stegun, whose error is at most 1.5e-7: half the time of scipy's ``erf``.
    """
    result = np.empty_like(x)
    for i in range(0, len(x), _GELU_ROWS):
        block = x[i : i + _GELU_ROWS]
        size = np.abs(block)
        t = 1 / (1 + size * np.float32(0.3275911 * 0.5**0.5))
        tail = t * _ERFC[0]
        for coefficient in _ERFC[1:]:
            tail += coefficient
            tail *= t
        tail *= np.exp(size * size * np.float32(-0.5))
        result[i : i + _GELU_ROWS] = np.maximum(block, 0) - size * tail
    return result


def _means(x: Float32, offsets: Ints, lengths: Ints) -> Float32:
    """Return the mean state of each prompt's tokens, (n_prompts, width)."""
    sums = np.add.reduceat(x, offsets[:-1], axis=0)
    return np.asarray(sums / lengths[:, None], np.float32)
