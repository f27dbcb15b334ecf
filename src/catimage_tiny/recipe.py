"""The training recipe of the embedded pool: every setting of every part, as data.

The defaults are the settings of the packaged weights (``pools/tiny/recipe.json``).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Self

from catimage.scenes.grammar import SCENE_KINDS

PATTERNED = "patterned"
ORDINARY_KINDS = tuple(kind for kind in SCENE_KINDS if kind != PATTERNED)


@dataclass(frozen=True)
class SceneSet:
    """One set of rendered training scenes.

    Scenes are rendered in :data:`CHUNKS` chunks with different seeds. The set therefore does not
    depend on the number of worker processes.

    Attributes:
        name: Name of the set, and stem of its files in the build folder.
        scene_kinds: Kinds of scene, each equally likely.
        pairs_per_chunk: Pairs of a scene and its neighbour in each chunk.
        first_seed: Seed of the first chunk; the following chunks take the following integers.
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
SCENE_SETS = (
    SceneSet("scenes", SCENE_KINDS, 625, 1000),  # 40,000 scenes
    SceneSet("ordinary", ORDINARY_KINDS, 1406, 1100),  # 89,984 scenes
    SceneSet(PATTERNED, (PATTERNED,), 375, 1200),  # 24,000 scenes
)


@dataclass(frozen=True)
class PartSettings:
    """How one part is trained: AdamW, a linear warm-up, and a cosine decay of the learning rate.

    Attributes:
        updates: Number of optimizer updates.
        batch_size: Examples per update.
        learning_rate: Peak of the schedule.
        averaging: Final decay of the exponential moving average of the weights, which is saved.
        weight_decay: Of matrices and convolutions; vectors have none.
        betas: Coefficients of AdamW's running averages.
    """

    updates: int
    batch_size: int
    learning_rate: float
    averaging: float = 0.999
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)


PARTS: dict[str, PartSettings] = {
    "clip": PartSettings(2073, 1024, 1e-3, weight_decay=0.1, betas=(0.9, 0.98)),
    "vae": PartSettings(1951, 128, 2e-3, weight_decay=1e-4),
    "unet": PartSettings(10_750, 512, 2e-3, averaging=0.9995),
    "lightning": PartSettings(524, 256, 5e-4),
    "turbo": PartSettings(1234, 256, 1e-3),
    "patterns": PartSettings(2125, 256, 2e-3, averaging=0.998),
    "tokenizer": PartSettings(2601, 128, 2e-3),
    "transformer": PartSettings(2659, 256, 1e-3),
}
"""Settings by part, in the order of training: a part needs only parts above it."""


@dataclass(frozen=True)
class Recipe:
    """Scene sets and settings of all parts.

    Attributes:
        scene_sets: The training scenes.
        parts: Settings by part, in the order of training.
        vocabulary_captions: Captions that the text tokenizer's vocabulary is learned from.
        guidance: Classifier-free guidance scale that tiny-lightning has built in.
    """

    scene_sets: tuple[SceneSet, ...] = SCENE_SETS
    parts: dict[str, PartSettings] = field(default_factory=lambda: dict(PARTS))
    vocabulary_captions: int = 20_000
    guidance: float = 3.0

    def scaled(self, factor: float, max_batch_size: int | None = None) -> Self:
        """Return a recipe with ``factor`` times the updates and the scenes, at least one of each.

        Args:
            factor: Positive; below 1 trains less than the shipped weights.
            max_batch_size: Upper limit of the batch size of every part; at least 2.
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
        loss: Exponential moving average of the training loss at the end.
        seconds: Wall-clock time of the updates.
    """

    part: str
    settings: PartSettings
    loss: float
    seconds: float


def write_recipe(file: Path, recipe: Recipe, records: list[TrainingRecord], device: str) -> None:
    """Write scenes, settings, losses, device and library versions as JSON."""
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
