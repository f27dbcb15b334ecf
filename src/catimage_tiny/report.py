"""Evaluate the embedded pool: ``python -m catimage_tiny.report`` prints tables in Markdown.

It prints the retrieval accuracy of the pool's CLIP on unseen scenes; the mean score, cost and time
of each candidate by kind of prompt; and the gain of the best candidate per prompt over the best
single candidate. It also writes a grid of images.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from catimage.common.arrays import Floats
from catimage.metrics.registry import get_metric
from catimage.params import EncoderParams
from catimage.pool.costs import candidate_costs
from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.loading import load_pool
from catimage.pool.spec import Candidate, Pool
from catimage.scenes.grammar import SCENE_KINDS
from catimage_tiny.data import HeldOutScenes, held_out_scenes

HELD_OUT_SEED = 999
PRICES = (0.0, 1.0, 3.0, 10.0, 30.0)
"""Prices of a TFLOP in the metric's unit."""
_HEADER = 112
"""Height in pixels of the grid's header."""


@dataclass(frozen=True)
class SplitResult:
    """Mean of quality minus price times cost on the held-out half of the seeds.

    Attributes:
        per_prompt: Of the candidate chosen for each prompt.
        fixed: Of the best single candidate.
        error: Standard error over prompts of the difference.
    """

    per_prompt: float
    fixed: float
    error: float


def split_by_seed(scores: Floats, cost: Floats, price: float) -> SplitResult:
    """Estimate the gain of choosing a candidate per prompt, without selection bias.

    Each half of the seeds in turn chooses a candidate for every prompt and one candidate for all
    prompts; the other half evaluates both choices.

    Args:
        scores: (n_prompts, n_candidates, n_seeds), higher is better; n_seeds is even.
        cost: (n_candidates,).
        price: Price of a unit of cost, in the metric's unit.
    """
    value = scores - price * cost[None, :, None]
    prompts, seeds = np.arange(len(value)), range(value.shape[2])
    chosen, fixed = [], []
    for half in combinations(seeds, value.shape[2] // 2):
        choosing = value[:, :, list(half)].mean(2)
        evaluating = value[:, :, [s for s in seeds if s not in half]].mean(2)
        chosen.append(evaluating[prompts, choosing.argmax(1)])
        fixed.append(evaluating[:, choosing.mean(0).argmax()])
    per_prompt, single = np.mean(chosen, axis=0), np.mean(fixed, axis=0)
    error = (per_prompt - single).std(ddof=1) / np.sqrt(len(single))
    return SplitResult(float(per_prompt.mean()), float(single.mean()), float(error))


def generate_all(
    pool: Pool, captions: list[str], seeds: int, batch_size: int = 50
) -> tuple[NDArray[np.uint8], Floats]:
    """Generate every caption with every candidate and seed.

    Returns:
        Images (n_candidates, n_seeds, n_captions, h, w, 3), and seconds of CPU time per image
        (n_candidates,) without text encoding. CPU time hardly depends on other processes.
    """
    cache = GeneratorCache(pool, "cpu")
    cache.prepare()
    results = {}
    for name in cache.names:
        generator = cache.get(name)
        encoded = generator.encode(captions)
        for candidate in pool.candidates_of(name):
            key = candidate.candidate
            results[key] = _generate(generator, candidate, captions, encoded, seeds, batch_size)
        cache.release(name)
    images, seconds = zip(*(results[c.candidate] for c in pool.candidates), strict=True)
    return np.array(images), np.array(seconds)


def _generate(
    generator: Any,
    candidate: Candidate,
    captions: list[str],
    encoded: Any,
    seeds: int,
    batch_size: int,
) -> tuple[list[NDArray[np.uint8]], float]:
    batches = [captions[i : i + batch_size] for i in range(0, len(captions), batch_size)]
    generator.generate(batches[0], candidate, [0] * len(batches[0]), encoded)  # warm-up
    start = time.process_time()
    images = [
        np.concatenate([generator.generate(b, candidate, [s] * len(b), encoded) for b in batches])
        for s in range(seeds)
    ]
    return images, (time.process_time() - start) / seeds / len(captions)


def main() -> None:
    """Generate, score and print."""
    args = _parser().parse_args()
    pool, scenes = load_pool(args.pool), held_out_scenes(args.prompts, HELD_OUT_SEED)
    names = [candidate.candidate for candidate in pool.candidates]
    metric, clip = (
        get_metric(args.metric, EncoderParams()),
        get_metric("clip_score", EncoderParams()),
    )
    images, seconds = generate_all(pool, scenes.captions, args.seeds)
    scores = np.array(
        [
            [metric.score(image_batch, scenes.captions) for image_batch in by_seed]
            for by_seed in images
        ]
    ).transpose(2, 0, 1)
    costs = candidate_costs(pool)["cost"].to_numpy()
    if args.scores:
        np.savez(args.scores, scores=scores, kinds=scenes.scene_kinds, names=names, costs=costs)
    table = quality_table(scenes, scores, names)
    table.loc["rendered"] = _means(scenes.scene_kinds, metric.score(scenes.images, scenes.captions))
    table["GFLOP"] = pd.Series(dict(zip(names, costs * 1e3, strict=True)))
    table["CPU ms"] = pd.Series(dict(zip(names, seconds * 1e3, strict=True)))
    n = len(scenes.captions)
    print(f"CLIP retrieval among {n} unseen scenes: {retrieval(clip, scenes):.3f} of captions\n")
    print(table.to_markdown(floatfmt=".3f") + "\n")
    print(gain_table(scores, costs).to_markdown(index=False, floatfmt="+.4f"))
    args.grid.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image_grid(scenes, images[:, 0], names)).save(args.grid, optimize=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m catimage_tiny.report", description=__doc__)
    parser.add_argument("--prompts", type=int, default=20, help="prompts of each kind")
    parser.add_argument("--seeds", type=int, default=4, help="images per prompt; even")
    parser.add_argument("--pool", default="tiny-full")
    parser.add_argument("--metric", default="clip_score")
    parser.add_argument("--scores", type=Path, help="write the scores to this .npz file")
    parser.add_argument("--grid", type=Path, default=Path("docs/tiny-pool.png"))
    return parser


def retrieval(metric: Any, scenes: HeldOutScenes) -> float:
    """Return the share of images whose own caption has the highest score of all captions."""
    n = len(scenes.captions)
    scores = [
        metric.score(np.repeat(image[None], n, 0), scenes.captions) for image in scenes.images
    ]
    return float(np.mean(np.argmax(scores, axis=1) == np.arange(n)))


def quality_table(scenes: HeldOutScenes, scores: Floats, names: list[str]) -> pd.DataFrame:
    """Return the mean score by candidate (rows) and kind of prompt.

    Args:
        scenes: n_prompts scenes.
        scores: (n_prompts, n_candidates, n_seeds).
        names: n_candidates names.
    """
    rows = [_means(scenes.scene_kinds, scores[:, i].mean(1)) for i in range(len(names))]
    return pd.DataFrame(rows, index=names, columns=[*SCENE_KINDS, "all"])


def _means(scene_kinds: NDArray[np.str_], scores: Floats) -> list[float]:
    return [
        *(float(scores[scene_kinds == kind].mean()) for kind in SCENE_KINDS),
        float(scores.mean()),
    ]


def gain_table(scores: Floats, costs: Floats) -> pd.DataFrame:
    """Return the gain of choosing per prompt, with its 95% interval, at several prices."""
    rows = []
    for price in PRICES:
        result = split_by_seed(scores, costs, price)
        gain, margin = result.per_prompt - result.fixed, 1.96 * result.error
        rows.append((price, result.per_prompt, result.fixed, gain, gain - margin, gain + margin))
    columns = ["price per TFLOP", "best per prompt", "best single", "gain", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def image_grid(
    scenes: HeldOutScenes, images: NDArray[np.uint8], names: list[str], per_kind: int = 5
) -> NDArray[np.uint8]:
    """Return a picture with a row per prompt and a column per candidate, rendered scenes last.

    Args:
        scenes: n_prompts scenes; the first ``per_kind`` of each kind are shown.
        images: uint8 (n_candidates, n_prompts, h, w, 3).
        names: n_candidates names.
        per_kind: Rows per kind of prompt.
    """
    rows = [
        i for kind in SCENE_KINDS for i in np.flatnonzero(scenes.scene_kinds == kind)[:per_kind]
    ]
    lines = [np.concatenate([*images[:, i], scenes.images[i]], axis=1) for i in rows]
    titles = [_title(name, images.shape[3]) for name in [*names, "rendered"]]
    return np.concatenate([np.concatenate(titles, axis=1), *lines], axis=0)


def _title(name: str, width: int) -> NDArray[np.uint8]:
    """Return a candidate's name, rotated by 90 degrees: uint8 (header, width, 3)."""
    canvas, font = Image.new("RGB", (_HEADER, width), "white"), ImageFont.load_default(14)
    text = name.removeprefix("tiny-")
    ImageDraw.Draw(canvas).text((2, width / 2), text, "black", font, anchor="lm")
    return np.asarray(canvas.rotate(90, expand=True))


if __name__ == "__main__":
    main()
