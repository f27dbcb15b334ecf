"""The training recipe of the embedded pool: scene sets, and training settings of all parts.

The defaults are the settings of the packaged weights (src/catimage/pools/tiny/recipe.json).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Self

from catimage.scenes.grammar import SCENE_KINDS

ORDINARY_KINDS = ("simple", "middling", "crowded")
"""Kinds of the ordinary scenes: all kinds except ``patterned``."""
ALL_SCENES, ORDINARY, PATTERNED = "scenes", "ordinary", "patterned"
"""Names of the scene sets: scenes of all kinds, ordinary scenes, and patterned scenes."""


@dataclass(frozen=True)
class SceneSet:
    """A set of rendered training scenes.

    Each set is rendered in :data:`CHUNKS` chunks with different seeds, so that it does not depend
    on the number of processes that render it.

    Attributes:
        name: Name of the set and of its files in the build folder.
        scene_kinds: Kinds of scene, which are equally likely.
        pairs_per_chunk: Number of pairs of a scene and a similar scene in each chunk.
        first_seed: Seed of the first chunk; the seeds of all chunks are consecutive integers.
    """

    name: str
    scene_kinds: tuple[str, ...]
    pairs_per_chunk: int
    first_seed: int

    @property
    def scenes(self) -> int:
        """The number of scenes in the set."""
        return 2 * self.pairs_per_chunk * CHUNKS


CHUNKS = 32
"""Number of chunks of a scene set."""
SCENE_SETS = (
    SceneSet(ALL_SCENES, SCENE_KINDS, 625, 1000),  # 40,000 scenes
    SceneSet(ORDINARY, ORDINARY_KINDS, 1406, 1100),  # 89,984 scenes
    SceneSet(PATTERNED, ("patterned",), 375, 1200),  # 24,000 scenes
)
"""The scene sets: scenes of all kinds, ordinary scenes only, and patterned scenes only."""


@dataclass(frozen=True)
class PartSettings:
    """Training settings of one part.

    The optimizer is AdamW. The learning rate has a linear warm-up and a cosine decay.

    Attributes:
        updates: Number of optimizer updates.
        batch_size: Number of examples per update.
        learning_rate: Largest learning rate of the schedule.
        averaging: Final decay of the exponential moving average of the weights. The average is
            saved.
        weight_decay: Weight decay of matrices and convolutions; other parameters have none.
        betas: Coefficients of the running averages of AdamW.
    """

    updates: int
    batch_size: int
    learning_rate: float
    averaging: float = 0.999
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)


PARTS: dict[str, PartSettings] = {
    # CLIP model with its text tokenizer
    "clip": PartSettings(2073, 1024, 1e-3, weight_decay=0.1, betas=(0.9, 0.98)),
    "vae": PartSettings(1951, 128, 2e-3, weight_decay=1e-4),  # autoencoder
    "unet": PartSettings(10_750, 512, 2e-3, averaging=0.9995),  # denoiser of tiny-sd
    "lightning": PartSettings(524, 256, 5e-4),  # denoiser of tiny-lightning
    "turbo": PartSettings(1234, 256, 1e-3),  # denoiser of tiny-turbo
    "patterns": PartSettings(2125, 256, 2e-3, averaging=0.998),  # adapter of tiny-patterns
    "image_tokenizer": PartSettings(2601, 128, 2e-3),  # encoder and decoder of tiny-infinity
    "transformer": PartSettings(2659, 256, 1e-3),  # transformer of tiny-infinity
}
"""Training settings by part, in the order of training: a part depends only on parts above it."""


@dataclass(frozen=True)
class Recipe:
    """Scene sets, and training settings of all parts.

    Attributes:
        scene_sets: The training scenes.
        parts: Training settings by part, in the order of training.
        vocabulary_captions: Number of captions that the text tokenizer is trained on.
        guidance: Guidance scale of tiny-sd that is distilled into tiny-lightning.
    """

    scene_sets: tuple[SceneSet, ...] = SCENE_SETS
    parts: dict[str, PartSettings] = field(default_factory=lambda: dict(PARTS))
    vocabulary_captions: int = 20_000
    guidance: float = 3.0

    def scaled(self, factor: float, max_batch_size: int | None = None) -> Self:
        """Return a recipe with other numbers of updates, scenes and captions.

        Args:
            factor: Positive factor for the numbers of updates and scenes, which are at least 1, and
                for ``vocabulary_captions``, which is from 200 to 20,000.
            max_batch_size: Upper limit of the batch sizes, at least 2; None for no limit.
        """
        limit = max_batch_size or max(p.batch_size for p in self.parts.values())
        parts = {
            name: replace(
                part,
                updates=max(1, round(part.updates * factor)),
                batch_size=min(part.batch_size, limit),
            )
            for name, part in self.parts.items()
        }
        sets = tuple(
            replace(s, pairs_per_chunk=max(1, round(s.pairs_per_chunk * factor)))
            for s in self.scene_sets
        )
        captions = max(200, min(20_000, round(self.vocabulary_captions * factor)))
        return replace(self, parts=parts, scene_sets=sets, vocabulary_captions=captions)


@dataclass(frozen=True)
class TrainingRecord:
    """The outcome of training one part.

    Attributes:
        part: Name of the part.
        settings: Training settings of the part.
        loss: Exponential moving average of the training loss after the last update.
        seconds: Wall-clock time of all updates.
    """

    part: str
    settings: PartSettings
    loss: float
    seconds: float


def write_recipe(file: Path, recipe: Recipe, records: list[TrainingRecord], device: str) -> None:
    """Write the recipe and its training records as JSON.

    Args:
        file: The file to write.
        recipe: The recipe.
        records: Training records of all parts.
        device: Name of the device of the training.
    """
    parts = [
        {
            "part": r.part,
            **asdict(r.settings),
            "loss": round(r.loss, 4),
            "seconds": round(r.seconds),
        }
        for r in records
    ]
    document = {
        "date": date.today().isoformat(),
        "optimizer": "AdamW",
        "device": device,
        "versions": {name: version(name) for name in ("torch", "diffusers", "transformers")},
        "scenes": {s.name: s.scenes for s in recipe.scene_sets},
        "guidance": recipe.guidance,
        "parts": parts,
    }
    file.write_text(json.dumps(document, indent=2) + "\n")
