"""The prompts of the benchmark ``monitor``, and their embeddings, which are computed once.

The prompts of others are read from ``$CATIMAGE_SHARED/data/prompts``; the embeddings are cached in
the folder ``CATIMAGE_BENCHMARK_CACHE`` (default: ``catimage-monitor`` in the temporary folder).
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from catimage.common.hashing import file_digest
from catimage.data.prompts.diversity import select_diverse
from catimage.data.prompts.identity import normalise
from catimage.encoders.loading import load_encoder
from catimage.monitoring.reference import Reference
from catimage.params import EncoderParams

FILES = {
    "coco": "coco_val2014_5k.csv",
    "partiprompts": "partiprompts.tsv",
    "diffusiondb": "diffusiondb_5k.txt",
}


def shared_folder() -> Path:
    """The folder of the prompts, which need not exist."""
    return Path(os.environ.get("CATIMAGE_SHARED", "../shared")) / "data" / "prompts"


def read_prompts(name: str) -> list[str]:
    """The prompts of a file as they occur, also repeated ones; empty lines are left out."""
    path = shared_folder() / FILES[name]
    if path.suffix == ".csv":
        texts = pd.read_csv(path)["caption"].astype(str).tolist()
    elif path.suffix == ".tsv":
        texts = pd.read_csv(path, sep="\t", quoting=3)["Prompt"].astype(str).tolist()
    else:
        texts = path.read_text(encoding="utf-8").split("\n")
    return [text for text in map(normalise, texts) if text]


def embeddings(name: str, encoder: EncoderParams) -> np.ndarray:
    """Embeddings as the decision log has them (float16), of each prompt of a file."""
    digest = file_digest(shared_folder() / FILES[name])[:12]
    default = Path(tempfile.gettempdir()) / "catimage-monitor"
    folder = Path(os.environ.get("CATIMAGE_BENCHMARK_CACHE", default))
    path = folder / f"{encoder.name}-{name}-{digest}.npy"
    if not path.exists():
        texts = read_prompts(name)
        distinct = list(dict.fromkeys(texts))
        row = {text: i for i, text in enumerate(distinct)}
        pooled = load_encoder(encoder).encode(distinct).pooled.astype(np.float16)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(path, pooled[[row[text] for text in texts]])
    return np.load(path)


@dataclass(frozen=True)
class Traffic:
    """The reference and the prompts of each kind of traffic.

    Attributes:
        reference: one half of the distinct captions of COCO.
        train: the embeddings of the reference, (n_reference, width).
        embeddings: the embeddings of all traffic, (n_prompts, width).
        points: their coordinates, (n_prompts, n_coordinates).
        rows: the positions of the prompts of each kind; ``coco`` has the other half.
    """

    reference: Reference
    train: np.ndarray
    embeddings: np.ndarray
    points: np.ndarray
    rows: dict[str, np.ndarray]

    def draw(self, name: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draw positions of prompts of one kind, with replacement."""
        return self.rows[name][rng.integers(0, len(self.rows[name]), shape)]


def traffic(encoder: EncoderParams, seed: int = 0, max_similarity: float = 1.0) -> Traffic:
    """Split COCO in half at random, and compute the coordinates of all prompts.

    Args:
        encoder: the text encoder.
        seed: seed of the split.
        max_similarity: similar prompts are removed from the reference, as by the stage sample.
    """
    raw = {name: embeddings(name, encoder) for name in FILES}
    texts = read_prompts("coco")
    first = np.array([texts.index(text) for text in dict.fromkeys(texts)])
    order = np.random.default_rng(seed).permutation(first)
    train = raw["coco"][order[: len(order) // 2]].astype(np.float32)
    train = train[select_diverse(train, max_similarity)]
    raw["coco"] = raw["coco"][order[len(order) // 2 :]]
    reference = Reference.fit(train)
    everything = np.concatenate(list(raw.values())).astype(np.float32)
    ends = np.cumsum([0, *map(len, raw.values())])
    rows = {name: np.arange(a, b) for name, a, b in zip(raw, ends, ends[1:], strict=False)}
    return Traffic(reference, train, everything, reference.coordinates(everything), rows)
