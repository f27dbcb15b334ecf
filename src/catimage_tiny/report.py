"""Is the tiny pool any good? ``python -m catimage_tiny.report`` prints what a reader needs to judge
it, as Markdown.

Retrieval accuracy of its CLIP on scenes that it never saw; CLIPScore by candidate and kind of
prompt beside that of rendered scenes, with cost and milliseconds; what choosing a candidate for
each prompt is worth when it is chosen on half of the seeds and judged on the other half, and which
kinds of prompt then go where; and a grid of images.
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

from catimage.pool.device_memory import DeviceMemory
from catimage.pool.registry import kind_of
from catimage.pool.spec import Pool
from catimage.scenes.grammar import KINDS, draw_scene
from catimage.scenes.render import render

Floats = np.ndarray


@dataclass(frozen=True)
class Held:
    """Scenes that training never saw: ``kinds`` and ``captions`` (n,), and ``images`` rendered of
    them, uint8 (n, 64, 64, 3).
    """

    kinds: np.ndarray
    captions: list[str]
    images: np.ndarray


def held_out(count: int, seed: int) -> Held:
    """Distinct scenes of another seed than training's, ``count`` of each kind."""
    rng = np.random.default_rng(seed)
    found: dict[str, tuple[str, np.ndarray]] = {}
    for kind in KINDS:
        start = len(found)
        while len(found) < start + count:
            scene = draw_scene(rng, kind)
            found.setdefault(scene.caption(), (kind, render(scene, rng)))
    return Held(
        np.array([k for k, _ in found.values()]),
        list(found),
        np.stack([i for _, i in found.values()]),
    )


@dataclass(frozen=True)
class Split:
    """Means of quality - price x cost on the seeds that did not choose, and the standard error of
    their difference over prompts.
    """

    chosen: float
    fixed: float
    error: float


def split_by_seed(scores: Floats, cost: Floats, price: float) -> Split:
    """What a choice of candidate for each prompt is worth beyond its seeds.

    Every half of the seeds chooses once, and the other half judges: the candidate that is best for
    a prompt on the choosing seeds, against the one that is best on average there.

    Args:
        scores: (n_prompts, n_candidates, n_seeds), higher is better; n_seeds is even.
        cost: (n_candidates,).
        price: of a unit of cost, in the metric's unit; 0 asks for quality alone.
    """
    value = scores - price * cost[None, :, None]
    prompts, seeds = np.arange(len(value)), range(value.shape[2])
    chosen, fixed = [], []
    for half in combinations(seeds, value.shape[2] // 2):
        choose = value[:, :, list(half)].mean(2)
        judge = value[:, :, [s for s in seeds if s not in half]].mean(2)
        chosen.append(judge[prompts, choose.argmax(1)])
        fixed.append(judge[:, choose.mean(0).argmax()])
    own, one = np.mean(chosen, axis=0), np.mean(fixed, axis=0)
    return Split(
        float(own.mean()), float(one.mean()), float((own - one).std(ddof=1) / np.sqrt(len(own)))
    )


def generate_all(
    pool: Pool, captions: list[str], seeds: int, batch: int = 50
) -> tuple[np.ndarray, Floats]:
    """Images (n_candidates, n_seeds, n_prompts, h, w, 3) and seconds an image (n_candidates,), text
    encoding apart.
    """
    images, seconds = [], []
    for name, spec in pool.generators.items():
        generator = kind_of(spec, pool.folder).load(DeviceMemory())
        encoded = generator.encode(captions)
        for candidate in pool.candidates_of(name):
            generator.generate(captions[:batch], candidate, [0] * batch, encoded)  # warm
            start = time.perf_counter()
            cuts = [captions[i : i + batch] for i in range(0, len(captions), batch)]
            images.append(
                [
                    np.concatenate(
                        [generator.generate(c, candidate, [s] * len(c), encoded) for c in cuts]
                    )
                    for s in range(seeds)
                ]
            )
            seconds.append((time.perf_counter() - start) / seeds / len(captions))
    order = [
        [c for n in pool.generators for c in pool.candidates_of(n)].index(c)
        for c in pool.candidates
    ]
    return np.array(images)[order], np.array(seconds)[order]


def main() -> None:
    """Draws, generates, scores and prints."""
    from PIL import Image

    from catimage.metrics.registry import get_metric
    from catimage.params import Encoder
    from catimage.pool.costs import candidate_costs
    from catimage.pool.loading import load_pool
    from catimage_tiny.grid import grid

    parser = argparse.ArgumentParser(prog="python -m catimage_tiny.report", description=__doc__)
    parser.add_argument("--prompts", type=int, default=100, help="of each kind")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--pool", default="tiny")
    parser.add_argument("--metric", default="clip_score")
    parser.add_argument("--scores", type=Path, help="where to keep the scores (npz)")
    parser.add_argument("--grid", type=Path, default=Path("docs/tiny-pool.png"))
    args = parser.parse_args()
    pool, held = load_pool(args.pool, None), held_out(args.prompts, seed=999)
    costs = candidate_costs(pool)["cost"].to_numpy()
    metric = get_metric(args.metric, Encoder())
    images, seconds = generate_all(pool, held.captions, args.seeds)
    scores = np.array(
        [[metric.score(batch, held.captions) for batch in by_seed] for by_seed in images]
    ).transpose(2, 0, 1)
    names = [c.candidate for c in pool.candidates]
    if args.scores:
        np.savez(args.scores, scores=scores, kinds=held.kinds, names=names, costs=costs)
    found = _retrieval(get_metric("clip_score", Encoder()), held)
    print(
        f"CLIP retrieval among {len(held.captions)} unseen scenes: {found:.3f} of captions, chance"
        f" {1 / len(held.captions):.4f}\n"
    )
    print(
        _by_kind(
            held, scores, names, metric.score(held.images, held.captions), costs, seconds
        ).to_markdown(floatfmt=".3f")
        + "\n"
    )
    print(_splits(scores, costs).to_markdown(index=False, floatfmt="+.4f") + "\n")
    for price in (0.0, 3.0):
        print(f"Best candidate at a price of {price:g} a TFLOP, by kind of prompt:\n")
        print(
            _who_goes_where(held.kinds, scores, names, costs, price).to_markdown(floatfmt=".2f")
            + "\n"
        )
    args.grid.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grid(held.kinds, images[:, 0], held.images, names)).save(args.grid)


def _retrieval(metric: Any, held: Held) -> float:
    """The share of images whose own caption scores highest among all captions."""
    n = len(held.captions)
    columns = [
        metric.score(np.repeat(held.images[i : i + 1], n, 0), held.captions) for i in range(n)
    ]
    return float(np.mean(np.argmax(columns, axis=1) == np.arange(n)))


def _by_kind(
    held: Held, scores: Floats, names: list[str], truth: Floats, costs: Floats, seconds: Floats
) -> pd.DataFrame:
    """Mean score by candidate (rows) and kind; the rendered scenes last."""
    rows = {**dict(zip(names, scores.mean(2).T, strict=True)), "rendered": truth}
    table = pd.DataFrame(
        {kind: {n: v[held.kinds == kind].mean() for n, v in rows.items()} for kind in KINDS}
    )
    table["all"] = pd.Series({n: v.mean() for n, v in rows.items()})
    table["GFLOP"] = pd.Series(dict(zip(names, costs * 1e3, strict=True)))
    table["ms"] = pd.Series(dict(zip(names, seconds * 1e3, strict=True)))
    return table


def _splits(scores: Floats, costs: Floats) -> pd.DataFrame:
    """Rows by price; the difference with its 95% interval."""
    rows = []
    for price in (0.0, 1.0, 3.0, 10.0, 30.0):
        made = split_by_seed(scores, costs, price)
        gain = made.chosen - made.fixed
        ends = (gain - 1.96 * made.error, gain + 1.96 * made.error)
        rows.append((price, made.chosen, made.fixed, gain, *ends))
    return pd.DataFrame(
        rows,
        columns=[
            "price of a TFLOP",
            "chosen for each prompt",
            "one for all",
            "gain",
            "low",
            "high",
        ],
    )


def _who_goes_where(
    kinds: np.ndarray, scores: Floats, names: list[str], costs: Floats, price: float
) -> pd.DataFrame:
    """Share of each kind's prompts for which a candidate (rows) has the best mean score over seeds,
    less ``price`` x cost.
    """
    best = (scores.mean(2) - price * costs).argmax(1)
    return pd.DataFrame(
        {
            kind: {n: float((best[kinds == kind] == i).mean()) for i, n in enumerate(names)}
            for kind in KINDS
        }
    )


if __name__ == "__main__":
    main()
