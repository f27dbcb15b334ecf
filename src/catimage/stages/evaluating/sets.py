"""A part of stage evaluate: what the networks of set metrics see in the test prompts' images and in real ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import UnidentifiedImageError

from catimage.errors import InputError
from catimage.evaluation.methods import Pool
from catimage.evaluation.sets import FEWEST, Sets, grouped, metric_sets
from catimage.metrics import Context
from catimage.metrics.sets import ImageSet, SetMetric, set_metric
from catimage.metrics.sets.features import Extractor, load_extractor
from catimage.metrics.sets.references import files_of, opened, rendered, scenes_of
from catimage.params import Params
from catimage.routing.rule import Floats, Ints
from catimage.shards.manifest import Entry, read_manifest
from catimage.shards.store import decode_image, shard_path
from catimage.workspace import Workspace


def sets_document(
    workspace: Workspace, params: Params, own: bool, test: pd.DataFrame, pool: Pool, predicted: Floats, document: dict[str, Any]
) -> dict[str, Any] | None:
    """``sets`` of ``metrics.json``: the metrics of ``evaluate.set_metrics``; None where there are none.

    An image is looked at once by each network; of one network at a time, the features of all images are held.

    Args:
        own: whether the test prompts are the workspace's own, which may have images.
        test: their rows of the prompts table; ``predicted`` (n_prompts, n_candidates) in the same order.
        document: the rest of ``metrics.json``.

    Raises:
        InputError: an unknown metric, weights that are not there, a damaged shard, or reference images that cannot be read.
    """
    wanted = [set_metric(name) for name in dict.fromkeys(params.evaluate.set_metrics)]
    if not wanted:
        return None
    entries = read_manifest(workspace.images) if own and workspace.images.exists() else []
    seeds, rows = _whole(workspace.images, entries, test["prompt_id"].tolist(), pool.candidates)
    if len(rows) < FEWEST:
        what = f"of {len(rows)} test prompts every candidate has images, and {FEWEST} are needed at least"
        left_out = [f"{', '.join(metric.name for metric in wanted)}: {what}."]
        return {"n_prompts": len(rows), "n_images": 0, "references": None, "metrics": {}, "left_out": left_out}
    seen = test.iloc[rows].reset_index(drop=True)
    judged, left_out = _possible(wanted, params, seen["prompt"].tolist())
    found: dict[str, Any] = {}
    for network in dict.fromkeys(metric.network for metric in judged):
        extractor = load_extractor(network, Context(params.encoder, params.label.device, params.label.weights))
        mine = [metric for metric in judged if metric.network == network]
        made = _made(workspace.images, entries, seen["prompt_id"].tolist(), pool.candidates, seeds, extractor)
        real, again = _real(workspace, params, seen["prompt"].tolist(), len(seeds), extractor, any(m.needs_reference for m in mine))
        for metric in mine:
            parts = [_read(metric, extractor, part) for part in (real, again)]
            values = made if metric.reads == "features" else extractor.logits(made.reshape(-1, made.shape[-1])).reshape(*made.shape[:3], -1)
            sets = Sets(values, parts[0], parts[1], grouped(len(rows), params.evaluate.seed))
            found[metric.name] = {"version": extractor.version, **metric_sets(metric, sets, pool, predicted[rows], document)}
    return {
        "n_prompts": len(rows),
        "n_images": len(rows) * len(seeds),
        "references": params.evaluate.reference_images or "images of the same prompts by the renderer of scenes",
        "metrics": {metric.name: found[metric.name] for metric in judged},
        "left_out": left_out,
    }


def _whole(folder: Path, entries: list[Entry], prompt_ids: list[str], candidates: list[str]) -> tuple[list[int], Ints]:
    """The seeds, and the rows of the prompts that have an image of every candidate and seed."""
    if not entries:
        return [], np.zeros(0, int)
    keys = pd.concat([_rows(folder, entry, ["prompt_id", "candidate", "seed"], prompt_ids).to_pandas() for entry in entries])
    keys = keys[keys["candidate"].isin(candidates)].drop_duplicates()
    seeds = sorted(keys["seed"].unique().tolist())
    counts = keys.groupby("prompt_id").size().reindex(prompt_ids, fill_value=0).to_numpy()
    return seeds, np.flatnonzero((counts == len(seeds) * len(candidates)) & (counts > 0))


def _rows(folder: Path, entry: Entry, columns: list[str], prompt_ids: list[str]) -> pa.Table:
    """What a shard has of these prompts.

    Raises:
        InputError: it is missing or damaged.
    """
    path = shard_path(folder, entry.shard)
    try:
        return pq.read_table(path, columns=columns, filters=[("prompt_id", "in", prompt_ids)], partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is missing or damaged ({error}): run 'catimage generate' again.") from error


def _made(folder: Path, entries: list[Entry], ids: list[str], candidates: list[str], seeds: list[int], extractor: Extractor) -> Floats:
    """Features of all images: float32 (n_prompts, n_candidates, n_seeds, width)."""
    made: Floats | None = None
    for entry in entries:
        if entry.candidate not in candidates:
            continue
        rows = _rows(folder, entry, ["prompt_id", "seed", "image"], ids).to_pydict()
        if not rows["image"]:
            continue
        names = [f"{entry.candidate} of prompt {i} at seed {s}" for i, s in zip(rows["prompt_id"], rows["seed"], strict=True)]
        features = extractor.all_features(_decoded(rows["image"], names))
        if made is None:
            made = np.full((len(ids), len(candidates), len(seeds), features.shape[1]), np.nan, np.float32)
        places = [ids.index(i) for i in rows["prompt_id"]], [seeds.index(s) for s in rows["seed"]]
        made[places[0], candidates.index(entry.candidate), places[1]] = features
    assert made is not None  # there are images of every prompt
    return made


def _decoded(images: list[bytes], names: list[str]) -> Iterator[np.ndarray]:
    for data, name in zip(images, names, strict=True):
        try:
            yield decode_image(data)
        except (OSError, UnidentifiedImageError) as error:
            raise InputError(f"evaluate: the image {name} cannot be decoded ({error}): make it again.") from error


def _possible(wanted: list[SetMetric], params: Params, prompts: list[str]) -> tuple[list[SetMetric], list[str]]:
    """The metrics that make sense of these prompts, and why each of the others does not."""
    scenes = scenes_of(prompts)
    if not isinstance(scenes, str):
        return wanted, []
    tiny = [metric for metric in wanted if metric.network == "tiny"]
    lacking = [metric for metric in wanted if metric not in tiny and metric.needs_reference and not params.evaluate.reference_images]
    reasons = {
        f"judged by the tiny pool's CLIP, which knows captions of its scenes alone, and {scenes!r} is none": tiny,
        "no real images to compare with; name a folder of them in evaluate.reference_images": lacking,
    }
    left_out = [f"{', '.join(metric.name for metric in metrics)}: {reason}." for reason, metrics in reasons.items() if metrics]
    return [metric for metric in wanted if metric not in tiny + lacking], left_out


def _real(
    workspace: Workspace, params: Params, prompts: list[str], each: int, extractor: Extractor, needed: bool
) -> tuple[ImageSet | None, ImageSet | None]:
    """Real images, and as many others of the same prompts where they can be drawn; ``each`` a prompt."""
    if params.evaluate.reference_images and needed:
        values = extractor.all_features(opened(files_of(workspace.root / params.evaluate.reference_images)))
        return ImageSet(values, -1 - np.arange(len(values))), None
    scenes = scenes_of(prompts)
    if isinstance(scenes, str):
        return None, None
    owners = np.repeat(np.arange(len(scenes)), each)
    first, second = (ImageSet(extractor.all_features(rendered(scenes, each, draw)), owners) for draw in (0, 1))
    return first, second


def _read(metric: SetMetric, extractor: Extractor, images: ImageSet | None) -> ImageSet | None:
    """What the metric reads of a set's features."""
    if images is None or metric.reads == "features":
        return images
    return ImageSet(extractor.logits(images.values), images.prompt)
