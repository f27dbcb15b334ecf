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
_EPSILON, _GELU_ROWS = 1e-5, 64
_LOG_TAIL = [
    np.float32(coefficient)
    for coefficient in (
        -3.2806121526e-4,
        4.9105651124e-3,
        -3.5923830015e-2,
        -3.1884263768e-1,
        -7.9766528015e-1,
        -6.9317326879e-1,
    )
]
"""Coefficients of a polynomial, highest first, for the logarithm of the upper tail probability of
the normal distribution, fitted so that the largest error of :func:`_gelu` is smallest.
"""


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


_Linear = tuple[Float32, Float32]
"""A matrix (inputs, outputs) and a bias (outputs,)."""


@dataclass(frozen=True)
class _Block:
    """The weights of one transformer block.

    ``qkv`` and ``fc`` contain the scale and shift of the layer normalisation before them, and
    ``qkv`` the scale of the attention scores.
    """

    qkv: _Linear
    out: _Linear
    fc: _Linear
    proj: _Linear


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
            self._ln_final = _pair(weights, "ln_final")
            self._projection = weights["text_projection"]
            layers = range(int(config["layers"]))
            self._blocks = [_block(weights, i, self._heads) for i in layers]
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
        places = np.repeat(np.arange(len(rows)) * lengths.max(), lengths) + positions
        shape = len(rows), int(lengths.max())
        for block in self._blocks:
            qkv = _linear(_normalised(x), block.qkv)
            x += _linear(self._attention(qkv, places, shape), block.out)
            x += _linear(_gelu(_linear(_normalised(x), block.fc)), block.proj)
            layers.append(_means(x, offsets, lengths))
        states = _normalised(x) * self._ln_final[0] + self._ln_final[1]
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

    def _attention(self, qkv: Float32, places: Ints, shape: tuple[int, int]) -> Float32:
        """Return the causal self-attention of packed tokens, (n_tokens, width).

        Args:
            qkv: scaled queries, keys and values of all tokens, (n_tokens, 3 * width).
            places: row of each token in the padded batch, (n_tokens,).
            shape: number of prompts, and of tokens of the longest prompt.
        """
        n, length = shape
        padded = np.zeros((n * length, qkv.shape[1]), np.float32)
        padded[places] = qkv
        parts = padded.reshape(n, length, 3, self._heads, -1)
        q, k, v = (parts[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
        scores = q @ k.transpose(0, 1, 3, 2)
        scores += np.triu(np.full((length, length), -np.inf, np.float32), 1)
        scores -= scores.max(axis=3, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=3, keepdims=True)
        mixed = np.empty((n, length, self._heads, v.shape[3]), np.float32)
        np.matmul(scores, v, out=mixed.transpose(0, 2, 1, 3))
        packed: Float32 = mixed.reshape(n * length, -1)[places]
        return packed


def _block(weights: dict[str, Float32], number: int, heads: int) -> _Block:
    name = f"transformer.resblocks.{number}"
    attention = weights[f"{name}.attn.in_proj_weight"].T, weights[f"{name}.attn.in_proj_bias"]
    matrix, bias = _after_norm(_pair(weights, f"{name}.ln_1"), attention)
    width = len(matrix)
    scale = np.float32((width // heads) ** -0.5)
    matrix[:, :width] *= scale
    bias[:width] *= scale
    return _Block(
        (matrix, bias),
        _dense(weights, f"{name}.attn.out_proj"),
        _after_norm(_pair(weights, f"{name}.ln_2"), _dense(weights, f"{name}.mlp.c_fc")),
        _dense(weights, f"{name}.mlp.c_proj"),
    )


def _dense(weights: dict[str, Float32], name: str) -> _Linear:
    return np.ascontiguousarray(weights[f"{name}.weight"].T), weights[f"{name}.bias"]


def _pair(weights: dict[str, Float32], name: str) -> tuple[Float32, Float32]:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def _after_norm(norm: tuple[Float32, Float32], layer: _Linear) -> _Linear:
    """Return a linear layer that includes the scale and shift of the normalisation before it."""
    matrix = np.ascontiguousarray(norm[0][:, None] * layer[0])
    return matrix, np.asarray(norm[1].astype(np.float64) @ layer[0] + layer[1], np.float32)


def _linear(x: Float32, layer: _Linear) -> Float32:
    result: Float32 = x @ layer[0]
    result += layer[1]
    return result


def _normalised(x: Float32) -> Float32:
    """Return the rows of x with mean 0 and variance 1."""
    centred: Float32 = x - x.mean(axis=1, keepdims=True)
    variance = np.einsum("ij,ij->i", centred, centred) / np.float32(x.shape[1])
    centred *= (1 / np.sqrt(variance + np.float32(_EPSILON)))[:, None]
    return centred


def _gelu(x: Float32) -> Float32:
    """Replace x by its Gaussian error linear unit, in blocks that fit in the cache of a core.

    ``gelu(x) = max(x, 0) - |x| * Q(|x|)``, where Q is the upper tail probability of the normal
    distribution: ``exp`` of a polynomial. The error of the result is at most 4.4e-7, before
    rounding.
    """
    sizes = np.empty((min(_GELU_ROWS, len(x)), x.shape[1]), np.float32)
    tails = np.empty_like(sizes)
    for i in range(0, len(x), _GELU_ROWS):
        block = x[i : i + _GELU_ROWS]
        size, tail = sizes[: len(block)], tails[: len(block)]
        np.abs(block, out=size)
        np.multiply(size, _LOG_TAIL[0], out=tail)
        tail += _LOG_TAIL[1]
        for coefficient in _LOG_TAIL[2:]:
            tail *= size
            tail += coefficient
        np.exp(tail, out=tail)
        tail *= size
        np.maximum(block, 0, out=block)
        block -= tail
    return x


def _means(x: Float32, offsets: Ints, lengths: Ints) -> Float32:
    """Return the mean state of each prompt's tokens, (n_prompts, width)."""
    sums = np.add.reduceat(x, offsets[:-1], axis=0)
    return np.asarray(sums / lengths[:, None], np.float32)
