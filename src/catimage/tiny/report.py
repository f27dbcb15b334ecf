"""Is the tiny pool any good? ``python -m catimage.tiny.report`` prints what a reader needs to judge it, as Markdown.

Retrieval accuracy of its CLIP on scenes that it never saw, CLIPScore by kind of prompt and number of steps beside that of
rendered scenes, what choosing a step count a prompt is worth when chosen on one seed and judged on another, and a grid.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from catimage.pool.spec import Candidate, Generator
from catimage.tiny.render import render
from catimage.tiny.scenes import KINDS, draw_scene

Floats = np.ndarray


def held_out(count: int, seed: int) -> tuple[list[str], list[str], np.ndarray]:
    """Distinct scenes of another seed than training's: kinds, captions and rendered images, ``count`` of each kind."""
    rng = np.random.default_rng(seed)
    found: dict[str, tuple[str, np.ndarray]] = {}
    for kind in KINDS:
        start = len(found)
        while len(found) < start + count:
            scene = draw_scene(rng, kind)
            found.setdefault(scene.caption(), (kind, render(scene, rng)))
    return [k for k, _ in found.values()], list(found), np.stack([i for _, i in found.values()])


def split_by_seed(scores: Floats, cost: Floats, weight: float) -> tuple[float, float, float]:
    """What a choice of candidate a prompt is worth beyond its seed.

    Args:
        scores: (n_prompts, n_candidates, 2), a metric by seed; ``cost`` (n_candidates,).
        weight: price of cost in the metric's unit; 0 asks for quality alone.

    Returns:
        Mean of ``score - weight * cost`` on one seed, averaged over both directions: of the candidate chosen a prompt on
        the other seed, of the candidate best on average on the other seed, and the paired standard error of the difference.
    """
    value = scores - weight * cost[None, :, None]
    every = np.arange(len(value))
    pairs = [(value[:, :, 0], value[:, :, 1]), (value[:, :, 1], value[:, :, 0])]
    own = np.mean([judge[every, choose.argmax(1)] for choose, judge in pairs], axis=0)
    fixed = np.mean([judge[:, choose.mean(0).argmax()] for choose, judge in pairs], axis=0)
    return float(own.mean()), float(fixed.mean()), float((own - fixed).std(ddof=1) / np.sqrt(len(own)))


def main() -> None:
    """Draws, generates, scores and prints."""
    from PIL import Image

    from catimage.metrics import get_metric
    from catimage.params import Encoder
    from catimage.pool.pool import load_pool

    parser = argparse.ArgumentParser(prog="python -m catimage.tiny.report", description=__doc__)
    parser.add_argument("--prompts", type=int, default=100, help="of each kind")
    parser.add_argument("--pool", default="tiny")
    parser.add_argument("--grid", type=Path, default=Path("docs/tiny-pool.png"))
    args = parser.parse_args()
    pool = load_pool(args.pool, None)
    kinds, captions, rendered = held_out(args.prompts, seed=999)
    metric = get_metric("clip_score", Encoder())
    steps = [c.steps for c in pool.candidates]
    generator = pool.generators[pool.candidates[0].generator].open(pool.folder)
    images = np.stack([[_all(generator, captions, c, seed) for seed in (0, 1)] for c in pool.candidates])
    scores = np.array([[metric.score(batch, captions) for batch in by_seed] for by_seed in images]).transpose(2, 0, 1)
    truth = metric.score(rendered, captions)
    found = _retrieval(metric, rendered, captions)
    print(f"CLIP retrieval among {len(captions)} unseen scenes: {found:.3f} of captions, chance {1 / len(captions):.4f}\n")
    _print_scores(np.array(kinds), steps, scores, truth)
    _print_split(scores, np.array(steps, float))
    args.grid.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(_grid(kinds, images[:, 0], rendered)).save(args.grid)


def _all(generator: Generator, captions: list[str], candidate: Candidate, seed: int, batch: int = 50) -> np.ndarray:
    parts = [captions[i : i + batch] for i in range(0, len(captions), batch)]
    return np.concatenate([generator.generate(part, candidate, [seed] * len(part)) for part in parts])


def _retrieval(metric: object, images: np.ndarray, captions: list[str]) -> float:
    """The share of images whose own caption scores highest among all captions."""
    columns = [metric.score(np.repeat(images[i : i + 1], len(captions), 0), captions) for i in range(len(images))]  # type: ignore[attr-defined]
    return float(np.mean(np.argmax(columns, axis=1) == np.arange(len(images))))


def _print_scores(kinds: np.ndarray, steps: list[int], scores: Floats, truth: Floats) -> None:
    print("| CLIPScore | " + " | ".join(f"{s} steps" for s in steps) + " | rendered |\n|---" + "|---" * (len(steps) + 1) + "|")
    for kind in (*KINDS, "all"):
        rows = slice(None) if kind == "all" else kinds == kind
        print(f"| {kind} | " + " | ".join(f"{v:.3f}" for v in scores[rows].mean((0, 2))) + f" | {truth[rows].mean():.3f} |")


def _print_split(scores: Floats, cost: Floats) -> None:
    print("\n| price of a step | chosen a prompt on the other seed | one for all | difference |\n|---|---|---|---|")
    for weight in (0.0, 0.001, 0.003, 0.01, 0.03):
        own, fixed, error = split_by_seed(scores, cost, weight)
        print(f"| {weight} | {own:.4f} | {fixed:.4f} | {own - fixed:+.4f} ± {1.96 * error:.4f} |")


def _grid(kinds: list[str], images: np.ndarray, rendered: np.ndarray, each: int = 6) -> np.ndarray:
    """Rows are prompts (``each`` of a kind), columns the step counts and last a rendered scene of the caption."""
    rows = [i for kind in KINDS for i in np.flatnonzero(np.array(kinds) == kind)[:each]]
    lines = [np.concatenate([*images[:, i], rendered[i]], axis=1) for i in rows]
    return np.concatenate(lines, axis=0).repeat(2, axis=0).repeat(2, axis=1)


if __name__ == "__main__":
    main()
