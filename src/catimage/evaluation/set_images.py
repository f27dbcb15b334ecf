"""A part of stage evaluate: what the networks of set metrics see in the test prompts' images and in
real ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import UnidentifiedImageError

from catimage.common.arrays import Floats, Ints
from catimage.data.shards.manifest import ShardEntry, read_manifest
from catimage.data.shards.store import decode_image, shard_path
from catimage.errors import InputError
from catimage.evaluation.budget import Operating
from catimage.evaluation.methods import Pool
from catimage.evaluation.sets import FEWEST, Sets, grouped, metric_sets
from catimage.metrics.metric import MetricContext
from catimage.metrics.sets.distances import ImageSet
from catimage.metrics.sets.features import Extractor, load_extractor
from catimage.metrics.sets.references import list_images, read_images, render_scenes, scenes_of
from catimage.metrics.sets.registry import SetMetric, set_metric
from catimage.params import Params
from catimage.workspace import Workspace


def sets_document(
    workspace: Workspace,
    params: Params,
    own: bool,
    test: pd.DataFrame,
    pool: Pool,
    point: Operating,
    document: dict[str, Any],
) -> dict[str, Any] | None:
    """``sets`` of ``metrics.json``: the metrics of ``evaluate.set_metrics``; None where there are
    none.

    An image is looked at once by each network; of one network at a time, the features of all images
    are held.

    Args:
        own: whether the test prompts are the workspace's own, which may have images.
        test: their rows of the prompts table; ``point`` is the calibrated router on them, in the
            same order.
        document: the rest of ``metrics.json``.

    Raises:
        InputError: an unknown metric, weights that are not there, a damaged shard, or reference
            images that cannot be read.
    """
    wanted = [set_metric(name) for name in dict.fromkeys(params.evaluate.set_metrics)]
    if not wanted:
        return None
    entries = read_manifest(workspace.images) if own and workspace.images.exists() else []
    seeds, rows = _whole(workspace.images, entries, test["prompt_id"].tolist(), pool.candidates)
    if len(rows) < FEWEST:
        what = (
            f"of {len(rows)} test prompts every candidate has images, and {FEWEST} are needed at"
            " least"
        )
        return _document(
            len(rows), 0, None, {}, [f"{', '.join(metric.name for metric in wanted)}: {what}."]
        )
    pictures = _Pictures(workspace, params, entries, test.iloc[rows], pool.candidates, seeds)
    judged, left_out = _possible(wanted, params, pictures.prompts)
    predicted, picked = point.predicted[rows], point.served(pool.cost)[rows]
    found = {}
    for metric, version, sets in pictures.sets_of(judged):
        found[metric.name] = {
            "version": version,
            **metric_sets(metric, sets, pool, predicted, picked, document),
        }
    references = (
        params.evaluate.reference_images or "images of the same prompts by the renderer of scenes"
    )
    in_order = {metric.name: found[metric.name] for metric in judged}
    return _document(len(rows), len(rows) * len(seeds), references, in_order, left_out)


def _document(
    prompts: int, images: int, references: str | None, metrics: dict[str, Any], left_out: list[str]
) -> dict[str, Any]:
    return {
        "n_prompts": prompts,
        "n_images": images,
        "references": references,
        "metrics": metrics,
        "left_out": left_out,
    }


@dataclass(frozen=True)
class _Pictures:
    """The images of the judged prompts, rows of the prompts table: one of every candidate and seed,
    in the live shards ``entries``.
    """

    workspace: Workspace
    params: Params
    entries: list[ShardEntry]
    test: pd.DataFrame
    candidates: list[str]
    seeds: list[int]

    @property
    def prompts(self) -> list[str]:
        """The texts."""
        return self.test["prompt"].tolist()

    def sets_of(self, metrics: list[SetMetric]) -> Iterator[tuple[SetMetric, str, Sets]]:
        """What each metric sees, and the version of its network; metrics of one network come one
        after the other.
        """
        groups = grouped(len(self.test), self.params.evaluate.seed)
        for network in dict.fromkeys(metric.network for metric in metrics):
            extractor = load_extractor(
                network,
                MetricContext(self.params.encoder, self.params.label.device, self.params.label.weights),
            )
            mine = [metric for metric in metrics if metric.network == network]
            ids = self.test["prompt_id"].tolist()
            made = _made(
                self.workspace.images, self.entries, ids, self.candidates, self.seeds, extractor
            )
            needed = any(metric.needs_reference for metric in mine)
            parts = _real(
                self.workspace, self.params, self.prompts, len(self.seeds), extractor, needed
            )
            for metric in mine:
                real, again = (
                    None if p is None else ImageSet(_read(metric, extractor, p.values), p.prompt)
                    for p in parts
                )
                yield (
                    metric,
                    extractor.version,
                    Sets(_read(metric, extractor, made), real, again, groups),
                )


def _whole(
    folder: Path, entries: list[ShardEntry], prompt_ids: list[str], candidates: list[str]
) -> tuple[list[int], Ints]:
    """The seeds, and the rows of the prompts that have an image of every candidate and seed."""
    if not entries:
        return [], np.zeros(0, int)
    keys = pd.concat(
        [
            _rows(folder, entry, ["prompt_id", "candidate", "seed"], prompt_ids).to_pandas()
            for entry in entries
        ]
    )
    keys = keys[keys["candidate"].isin(candidates)].drop_duplicates()
    seeds = sorted(keys["seed"].unique().tolist())
    counts = keys.groupby("prompt_id").size().reindex(prompt_ids, fill_value=0).to_numpy()
    return seeds, np.flatnonzero((counts == len(seeds) * len(candidates)) & (counts > 0))


def _rows(folder: Path, entry: ShardEntry, columns: list[str], prompt_ids: list[str]) -> pa.Table:
    """What a shard has of these prompts.

    Raises:
        InputError: it is missing or damaged.
    """
    path = shard_path(folder, entry.shard)
    try:
        return pq.read_table(
            path, columns=columns, filters=[("prompt_id", "in", prompt_ids)], partitioning=None
        )
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path} is missing or damaged ({error}): run 'catimage generate' again."
        ) from error


def _made(
    folder: Path,
    entries: list[ShardEntry],
    ids: list[str],
    candidates: list[str],
    seeds: list[int],
    extractor: Extractor,
) -> Floats:
    """Features of all images: float32 (n_prompts, n_candidates, n_seeds, width)."""
    made: Floats | None = None
    for entry in entries:
        if entry.candidate not in candidates:
            continue
        rows = _rows(folder, entry, ["prompt_id", "seed", "image"], ids).to_pydict()
        if not rows["image"]:
            continue
        names = [
            f"{entry.candidate} of prompt {i} at seed {s}"
            for i, s in zip(rows["prompt_id"], rows["seed"], strict=True)
        ]
        features = extractor.all_features(_decoded(rows["image"], names))
        if made is None:
            made = np.full(
                (len(ids), len(candidates), len(seeds), features.shape[1]), np.nan, np.float32
            )
        places = [ids.index(i) for i in rows["prompt_id"]], [seeds.index(s) for s in rows["seed"]]
        made[places[0], candidates.index(entry.candidate), places[1]] = features
    assert made is not None  # there are images of every prompt
    return made


def _decoded(images: list[bytes], names: list[str]) -> Iterator[np.ndarray]:
    for data, name in zip(images, names, strict=True):
        try:
            yield decode_image(data)
        except (OSError, UnidentifiedImageError) as error:
            raise InputError(
                f"evaluate: the image {name} cannot be decoded ({error}): make it again."
            ) from error


def _possible(
    wanted: list[SetMetric], params: Params, prompts: list[str]
) -> tuple[list[SetMetric], list[str]]:
    """The metrics that make sense of these prompts, and why each of the others does not."""
    scenes = scenes_of(prompts)
    if not isinstance(scenes, str):
        return wanted, []
    tiny = [metric for metric in wanted if metric.network == "tiny"]
    lacking = [
        metric
        for metric in wanted
        if metric not in tiny and metric.needs_reference and not params.evaluate.reference_images
    ]
    reasons = {
        f"judged by the tiny pool's CLIP, which knows captions of its scenes alone, and {scenes!r} is none": (
            tiny
        ),
        "no real images to compare with; name a folder of them in evaluate.reference_images": (
            lacking
        ),
    }
    left_out = [
        f"{', '.join(metric.name for metric in metrics)}: {reason}."
        for reason, metrics in reasons.items()
        if metrics
    ]
    return [metric for metric in wanted if metric not in tiny + lacking], left_out


def _real(
    workspace: Workspace,
    params: Params,
    prompts: list[str],
    each: int,
    extractor: Extractor,
    needed: bool,
) -> tuple[ImageSet | None, ImageSet | None]:
    """Real images, and as many others of the same prompts where they can be drawn; ``each`` a
    prompt.
    """
    if params.evaluate.reference_images and needed:
        values = extractor.all_features(
            read_images(list_images(workspace.root / params.evaluate.reference_images))
        )
        return ImageSet(values, -1 - np.arange(len(values))), None
    scenes = scenes_of(prompts)
    if isinstance(scenes, str):
        return None, None
    owners = np.repeat(np.arange(len(scenes)), each)
    first, second = (
        ImageSet(extractor.all_features(render_scenes(scenes, each, draw)), owners) for draw in (0, 1)
    )
    return first, second


def _read(metric: SetMetric, extractor: Extractor, features: Floats) -> Floats:
    """What the metric reads of features (..., width)."""
    if metric.output == "features":
        return features
    return extractor.logits(features.reshape(-1, features.shape[-1])).reshape(
        *features.shape[:-1], -1
    )
