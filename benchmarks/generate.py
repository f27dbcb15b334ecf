"""Images per second of stage generate, compared with a loop over a diffusers pipeline.

The loop runs once with one image at a time and once with batches. The candidates are those of the
generator tiny-sd of the embedded pool that differ only in their number of steps, because the plain
pipeline supports no other settings.
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
from catimage.scenes.grammar import sample_scene
from catimage.stages import generate
from catimage.workspace import Workspace

PROMPT_COUNT, SEEDS, ROUNDS = 16, [0, 1], 2


def _run_stage(prompts: list[str], pool: Pool) -> None:
    """Run the stage, which loads the weights, generates all images and writes the manifest."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        prompt_rows = [(prompt_id(p), p, "benchmark", "train") for p in prompts]
        write_table(pd.DataFrame(prompt_rows, columns=PROMPTS.names), workspace.prompts, PROMPTS)
        workspace.pools.mkdir()
        (workspace.pools / f"{pool.name}.yaml").write_text(
            yaml.safe_dump(pool.model_dump(mode="json", exclude_defaults=True))
        )
        settings = {"pool": pool.name, "generate": {"seeds": SEEDS}}
        generate.run(workspace, parse_params(settings, "params.yaml"))


def _loop(batch_size: int) -> Callable[[list[str], Pool], None]:
    """Return a loop that loads the pipeline, generates all images, and saves PNG files."""

    def run(prompts: list[str], pool: Pool) -> None:
        import torch
        from diffusers import StableDiffusionPipeline

        spec = pool.generators[pool.candidates[0].generator]
        assert isinstance(spec, DiffusersSpec)
        pipeline: Any = StableDiffusionPipeline.from_pretrained(spec.weights, dtype=torch.float32)
        pipeline.set_progress_bar_config(disable=True)
        pairs = [(p, s) for p in prompts for s in SEEDS]
        with tempfile.TemporaryDirectory() as folder:
            for candidate in pool.candidates:
                for start in range(0, len(pairs), batch_size):
                    texts, seeds = zip(*pairs[start : start + batch_size], strict=True)
                    rngs = [torch.Generator().manual_seed(seed) for seed in seeds]
                    output = pipeline(
                        list(texts),
                        num_inference_steps=candidate.steps,
                        guidance_scale=spec.guidance,
                        generator=rngs,
                    )
                    for i, image in enumerate(output.images):
                        image.save(f"{folder}/{candidate.candidate}-{start + i}.png")

    return run


def _step_pool() -> Pool:
    """Return a pool of the candidates of tiny-sd that differ only in their number of steps."""
    tiny = load_pool("tiny-full")
    spec = tiny.generators["tiny-sd"]
    assert isinstance(spec, DiffusersSpec)
    candidates = [c for c in tiny.candidates_of("tiny-sd") if not c.settings]
    generator = spec.model_copy(update={"weights": str(tiny.folder / spec.weights)})
    return Pool(name="tiny-sd-steps", generators={"tiny-sd": generator}, candidates=candidates)


def rows() -> list[Row]:
    """Generate images of 16 prompts with two seeds; report the best of two alternating rounds."""
    pool = _step_pool()
    rng = np.random.default_rng(0)
    prompts = list(dict.fromkeys(sample_scene(rng).caption() for _ in range(PROMPT_COUNT)))
    image_count = len(prompts) * len(SEEDS) * len(pool.candidates)
    methods = {"stage": _run_stage, "one at a time": _loop(1), "batches of 16": _loop(16)}
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(ROUNDS):
        for name, method in methods.items():
            start = time.perf_counter()
            method(prompts, pool)
            seconds[name].append(time.perf_counter() - start)
    best = {name: image_count / min(times) for name, times in seconds.items()}
    title = f"generate, {image_count} images of the pool {pool.name}"
    targets = {"one at a time": "1.2x", "batches of 16": ""}
    return [
        Row(
            title,
            f"{best['stage']:.1f} images/s",
            f"{best[name]:.1f} (plain loop, {name})",
            f"{best['stage'] / best[name]:.2f}x",
            target,
        )
        for name, target in targets.items()
    ]


if __name__ == "__main__":
    for row in rows():
        print(row)
