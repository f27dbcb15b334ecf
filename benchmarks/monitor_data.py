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
    """The reference and the coordinates of the prompts of each kind of traffic.

    Attributes:
        reference: one half of the distinct captions of COCO.
        points: coordinates by name; ``coco`` has the other half.
        raw: embeddings by name.
    """

    reference: Reference
    points: dict[str, np.ndarray]
    raw: dict[str, np.ndarray]


def traffic(encoder: EncoderParams, seed: int = 0) -> Traffic:
    """Split COCO in half, and compute the coordinates.

    Args:
        encoder: the text encoder.
        seed: seed of the random split.
    """
    raw = {name: embeddings(name, encoder) for name in FILES}
    texts = read_prompts("coco")
    first = np.array(sorted({text: i for i, text in reversed(list(enumerate(texts)))}.values()))
    order = np.random.default_rng(seed).permutation(first)
    train, raw["coco"] = (
        raw["coco"][order[: len(order) // 2]],
        raw["coco"][order[len(order) // 2 :]],
    )
    reference = Reference.fit(train.astype(np.float32))
    return Traffic(
        reference, {k: reference.coordinates(v) for k, v in raw.items()}, raw | {"train": train}
    )
