"""Images a second of the generate stage against a plain loop over the diffusers pipeline, one image
at a time and in batches.

The pool is tiny-sd of the tiny pool at its step counts: what a plain loop can make.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from benchmarks.measure import Row
from catimage.data.prompts.identity import prompt_id
from catimage.data.schema import PROMPTS, write_table
from catimage.params import parse_params
from catimage.pool.generators.diffusion.spec import DiffusersSpec
from catimage.pool.loading import load_pool
from catimage.pool.spec import Pool
from catimage.scenes.grammar import draw_scene
from catimage.stages import generate
from catimage.workspace import Workspace

PROMPT_COUNT, SEEDS, ROUNDS = 16, [0, 1], 2


def _stage(prompts: list[str], pool: Pool) -> None:
    """The stage, from loading the weights to the manifest."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        rows = [(prompt_id(p), p, "benchmark", "train") for p in prompts]
        write_table(pd.DataFrame(rows, columns=PROMPTS.names), workspace.prompts, PROMPTS)
        workspace.pools.mkdir()
        (workspace.pools / "plain.yaml").write_text(
            yaml.safe_dump(pool.model_dump(mode="json", exclude_defaults=True))
        )
        generate.run(
            workspace, parse_params({"pool": "plain", "generate": {"seeds": SEEDS}}, "params.yaml")
        )


def _loop(batch: int) -> Callable[[list[str], Pool], None]:
    """What one would write without the stage: load the pipeline, call it for every prompt, seed and
    step count, save PNG files.
    """

    def run(prompts: list[str], pool: Pool) -> None:
        import torch
        from diffusers import StableDiffusionPipeline

        spec = pool.generators[pool.candidates[0].generator]
        pipeline: Any = StableDiffusionPipeline.from_pretrained(spec.weights, dtype=torch.float32)
        pipeline.set_progress_bar_config(disable=True)
        pairs = [(p, s) for p in prompts for s in SEEDS]
        with tempfile.TemporaryDirectory() as folder:
            for candidate in pool.candidates:
                for start in range(0, len(pairs), batch):
                    texts, seeds = zip(*pairs[start : start + batch], strict=True)
                    noise = [torch.Generator().manual_seed(seed) for seed in seeds]
                    made = pipeline(
                        list(texts),
                        num_inference_steps=candidate.steps,
                        guidance_scale=spec.guidance,
                        generator=noise,
                    )
                    for i, image in enumerate(made.images):
                        image.save(f"{folder}/{candidate.candidate}-{start + i}.png")

    return run


def _plain_pool() -> Pool:
    tiny = load_pool("tiny")
    spec = tiny.generators["tiny-sd"]
    assert isinstance(spec, DiffusersSpec)
    own = [c for c in tiny.candidates_of("tiny-sd") if not c.settings]
    there = spec.model_copy(update={"weights": str(tiny.folder / spec.weights)})
    return Pool(name="tiny-sd", generators={"tiny-sd": there}, candidates=own)


def rows() -> list[Row]:
    """Every candidate, 16 prompts and two seeds each; the best of two rounds, taken in turn."""
    pool = _plain_pool()
    rng = np.random.default_rng(0)
    prompts = list(dict.fromkeys(draw_scene(rng).caption() for _ in range(PROMPT_COUNT)))
    images = len(prompts) * len(SEEDS) * len(pool.candidates)
    ways = {"stage": _stage, "one at a time": _loop(1), "batches of 16": _loop(16)}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            way(prompts, pool)
            spent[name].append(time.perf_counter() - start)
    best = {name: images / min(times) for name, times in spent.items()}
    what, ours = (
        f"generate, {images} images of the pool {pool.name}",
        f"{best['stage']:.1f} images/s",
    )
    others = {"one at a time": "1.2x", "batches of 16": ""}
    return [
        Row(
            what,
            ours,
            f"{best[o]:.1f} (plain loop, {o})",
            f"{best['stage'] / best[o]:.2f}x",
            target,
        )
        for o, target in others.items()
    ]


if __name__ == "__main__":
    for row in rows():
        print(row)
