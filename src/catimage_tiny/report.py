"""Evaluate the embedded pool on held-out scenes, whose captions are the prompts.

The report has the retrieval accuracy of the pool's CLIP model; a table of the mean score of each
candidate by kind of prompt, its cost and its time; and a table of the gain of choosing a candidate
per prompt over the best single candidate. The tables are printed as Markdown, and a grid of images
is written to a file.
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
"""Seed of the held-out scenes."""
PRICES = (0.0, 1.0, 3.0, 10.0, 30.0)
"""Prices of one TFLOP in the unit of the metric (lambda in equation 3 of the CATImage paper)."""
_HEADER = 112
"""Height of the names above the image grid, in pixels."""


@dataclass(frozen=True)
class SplitResult:
    """Mean utility on the half of the seeds that is not used to choose candidates.

    The utility of a candidate for a prompt is its quality minus price times cost.

    Attributes:
        per_prompt: Mean utility of the candidates that are chosen per prompt.
        fixed: Mean utility of the candidate that is chosen for all prompts.
        standard_error: Standard error of the difference over prompts.
    """

    per_prompt: float
    fixed: float
    standard_error: float


def split_by_seed(scores: Floats, costs: Floats, price: float) -> SplitResult:
    """Estimate the gain of choosing a candidate per prompt, without selection bias.

    For every way of splitting the seeds into two halves, the candidate with the best utility for
    each prompt and the best single candidate are chosen on one half of the seeds. Their utility is
    computed on the other half.

    Args:
        scores: Scores, higher is better: (n_prompts, n_candidates, n_seeds), n_seeds is even.
        costs: Cost of an image of each candidate, (n_candidates,).
        price: Price of a unit of cost in the unit of the metric.
    """
    utility = scores - price * costs[None, :, None]
    prompts, seeds = np.arange(len(utility)), range(utility.shape[2])
    chosen, fixed = [], []
    for half in combinations(seeds, utility.shape[2] // 2):
        first_half = utility[:, :, list(half)].mean(2)
        second_half = utility[:, :, [s for s in seeds if s not in half]].mean(2)
        chosen.append(second_half[prompts, first_half.argmax(1)])
        fixed.append(second_half[:, first_half.mean(0).argmax()])
    chosen_mean, fixed_mean = np.mean(chosen, axis=0), np.mean(fixed, axis=0)
    standard_error = (chosen_mean - fixed_mean).std(ddof=1) / np.sqrt(len(fixed_mean))
    return SplitResult(float(chosen_mean.mean()), float(fixed_mean.mean()), float(standard_error))


def generate_all(
    pool: Pool, captions: list[str], seeds: int, batch_size: int = 50
) -> tuple[NDArray[np.uint8], Floats]:
    """Generate images for all captions with all candidates and seeds, on the CPU.

    Args:
        pool: The pool.
        captions: The prompts.
        seeds: Number of seeds; the seeds are 0, 1, ...
        batch_size: Number of images per batch.

    Returns:
        Images, uint8 (n_candidates, n_seeds, n_captions, h, w, 3), and CPU time per image without
        text encoding, in seconds, (n_candidates,).
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
    """Generate and score images, print the tables, and write the image grid."""
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
    print(f"CLIP retrieval among {n} held-out scenes: accuracy {retrieval(clip, scenes):.3f}\n")
    print(table.to_markdown(floatfmt=".3f") + "\n")
    print(gain_table(scores, costs).to_markdown(index=False, floatfmt="+.4f"))
    args.grid.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image_grid(scenes, images[:, 0], names)).save(args.grid, optimize=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m catimage_tiny.report", description=__doc__)
    parser.add_argument("--prompts", type=int, default=20, help="number of prompts of each kind")
    parser.add_argument(
        "--seeds", type=int, default=4, help="number of images per prompt and candidate; even"
    )
    parser.add_argument("--pool", default="tiny-full", help="pool to evaluate")
    parser.add_argument("--metric", default="clip_score", help="metric of the scores")
    parser.add_argument("--scores", type=Path, help="also write the scores to this .npz file")
    parser.add_argument("--grid", type=Path, default=Path("docs/tiny-pool.png"), help="image grid")
    return parser


def retrieval(metric: Any, scenes: HeldOutScenes) -> float:
    """Return the share of images whose caption has the highest score of all captions."""
    n = len(scenes.captions)
    scores = [
        metric.score(np.repeat(image[None], n, 0), scenes.captions) for image in scenes.images
    ]
    return float(np.mean(np.argmax(scores, axis=1) == np.arange(n)))


def quality_table(scenes: HeldOutScenes, scores: Floats, names: list[str]) -> pd.DataFrame:
    """Return the mean score by candidate (rows) and kind of prompt.

    Args:
        scenes: The n_prompts scenes of the prompts.
        scores: (n_prompts, n_candidates, n_seeds).
        names: Names of the candidates.
    """
    rows = [_means(scenes.scene_kinds, scores[:, i].mean(1)) for i in range(len(names))]
    return pd.DataFrame(rows, index=names, columns=[*SCENE_KINDS, "all"])


def _means(scene_kinds: NDArray[np.str_], scores: Floats) -> list[float]:
    return [
        *(float(scores[scene_kinds == kind].mean()) for kind in SCENE_KINDS),
        float(scores.mean()),
    ]


def gain_table(scores: Floats, costs: Floats) -> pd.DataFrame:
    """Return the gain of choosing a candidate per prompt, with 95% intervals, one row per price.

    Args:
        scores: (n_prompts, n_candidates, n_seeds).
        costs: Cost of an image of each candidate in TFLOPs, (n_candidates,).
    """
    rows = []
    for price in PRICES:
        result = split_by_seed(scores, costs, price)
        gain, margin = result.per_prompt - result.fixed, 1.96 * result.standard_error
        rows.append((price, result.per_prompt, result.fixed, gain, gain - margin, gain + margin))
    columns = ["price per TFLOP", "best per prompt", "best single", "gain", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def image_grid(
    scenes: HeldOutScenes, images: NDArray[np.uint8], names: list[str], per_kind: int = 5
) -> NDArray[np.uint8]:
    """Return an image with one row per prompt and one column per candidate.

    The last column has the rendered images of the scenes.

    Args:
        scenes: The n_prompts scenes of the prompts.
        images: One image per candidate and prompt, uint8 (n_candidates, n_prompts, h, w, 3).
        names: Names of the candidates.
        per_kind: Number of rows per kind of prompt; the first prompts of each kind are shown.
    """
    rows = [
        i for kind in SCENE_KINDS for i in np.flatnonzero(scenes.scene_kinds == kind)[:per_kind]
    ]
    image_rows = [np.concatenate([*images[:, i], scenes.images[i]], axis=1) for i in rows]
    titles = [_title(name, images.shape[3]) for name in [*names, "rendered"]]
    return np.concatenate([np.concatenate(titles, axis=1), *image_rows], axis=0)


def _title(name: str, width: int) -> NDArray[np.uint8]:
    """Return an image of a candidate's name, rotated by 90 degrees: uint8 (_HEADER, width, 3)."""
    canvas, font = Image.new("RGB", (_HEADER, width), "white"), ImageFont.load_default(14)
    text = name.removeprefix("tiny-")
    ImageDraw.Draw(canvas).text((2, width / 2), text, "black", font, anchor="lm")
    return np.asarray(canvas.rotate(90, expand=True))


if __name__ == "__main__":
    main()
