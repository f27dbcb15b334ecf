"""Golden images: reference images of each kind that the embedded pool has.

``python -m tests.pool.golden.images`` generates and writes them again. Do this only if a change of
the code is meant to change images; CONTRIBUTING.md has the procedure.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.image_code import image_code
from catimage.pool.loading import load_pool

FOLDER = Path(__file__).parent
CODE = FOLDER / "code.json"
"""The digest of each kind's code when its golden images were generated."""
CANDIDATES = {
    "diffusers": ("tiny-turbo", "tiny-lightning", "tiny-ddim-8", "tiny-deepcache-32"),
    "next-scale": ("tiny-infinity",),
}
"""The candidates of the pool ``tiny-full`` with a golden image, by kind."""
PROMPT, SEED = "two small red rings and a large blue square on a grey background", 7


def generate(kind: str) -> dict[str, np.ndarray]:
    """Generate the images of a kind, uint8 (64, 64, 3) by candidate."""
    pool = load_pool("tiny-full")
    generators = [pool.candidate(name).generator for name in CANDIDATES[kind]]
    cache = GeneratorCache(pool, "cpu", generators)
    cache.prepare()
    images = {}
    for name in CANDIDATES[kind]:
        candidate = pool.candidate(name)
        generator = cache.get(candidate.generator)
        images[name] = generator.generate([PROMPT], candidate, [SEED])[0]
    return images


def read(kind: str) -> dict[str, np.ndarray]:
    """Read the golden images of a kind, uint8 (64, 64, 3) by candidate."""
    return {name: np.asarray(Image.open(FOLDER / f"{name}.png")) for name in CANDIDATES[kind]}


def write() -> None:
    """Write the golden images of all kinds, and the digests of their code."""
    for kind in CANDIDATES:
        for name, image in generate(kind).items():
            Image.fromarray(image).save(FOLDER / f"{name}.png")
    digests = {kind: image_code(kind)["code"] for kind in CANDIDATES}
    CODE.write_text(json.dumps(digests, indent=2) + "\n")


if __name__ == "__main__":
    write()
