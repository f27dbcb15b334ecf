"""Stage label: the metrics of ``label.metrics`` on every image of the manifest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from catimage.errors import InputError
from catimage.metrics import Metric, get_metric
from catimage.params import Params
from catimage.pool.pool import load_pool
from catimage.shards.lock import writing
from catimage.shards.manifest import Entry, read_manifest
from catimage.shards.store import KEYS, DamagedShard, decode_image, read_keys, read_shard
from catimage.tables import PROMPTS, SCORES, read_table, write_table
from catimage.workspace import Workspace, replacing


def run(workspace: Workspace, params: Params) -> None:
    """Writes ``data/scores.parquet``, sorted by metric, candidate, prompt and seed.

    Scores are kept by shard, metric and version in ``data/.labels``, so that a run that was killed continues, and a
    metric whose version changed is scored again by itself. An image is decoded once for all metrics.

    Raises:
        InputError: images are missing, damaged or not of these prompts, a metric is unknown, or another process is labelling here.
    """
    prompts = read_table(workspace.prompts, PROMPTS, "sample")
    entries = read_manifest(workspace.images)
    texts = dict(zip(prompts["prompt_id"], prompts["prompt"], strict=True))
    candidates = [c.candidate for c in load_pool(params.pool, workspace.pools).candidates]
    with writing(workspace.scores):
        _check_complete(workspace.images, entries, list(texts), candidates)
        metrics = [get_metric(name, params.encoder, params.label.device) for name in dict.fromkeys(params.label.metrics)]
        cache = workspace.scores.with_name(".labels")
        parts = []
        with tqdm(total=sum(e.images for e in entries), unit="image", desc="label") as bar:
            for entry in entries:
                parts.append(_label(entry, workspace.images, texts, metrics, cache, params.label.batch))
                bar.update(entry.images)
        scores = pd.concat(parts).sort_values(["metric", "candidate", "prompt_id", "seed"])
        write_table(scores, workspace.scores, SCORES)
        _collect(cache, {_kept(cache, e, m) for e in entries for m in metrics})


def _check_complete(folder: Path, entries: list[Entry], prompt_ids: list[str], candidates: list[str]) -> None:
    """Every prompt has an image of every candidate and seed, and there are no others; from the shards' keys alone."""
    absent = [c for c in candidates if c not in {e.candidate for e in entries}]
    if absent:
        raise InputError(f"{folder} has no images of the candidate {absent[0]!r}: run 'catimage generate' first.")
    try:
        images = pd.concat([read_keys(folder, entry.shard) for entry in entries])
    except (FileNotFoundError, DamagedShard) as error:
        raise InputError(f"{folder}: a shard is missing or damaged ({error}): run 'catimage generate' again.") from error
    full = images["candidate"].nunique() * images["seed"].nunique()
    count = images.groupby("prompt_id").size()
    short = int((count.reindex(prompt_ids, fill_value=0) < full).sum())
    if short:
        raise InputError(f"{folder}: {short} of {len(prompt_ids)} prompts lack images: run 'catimage generate' first.")
    if len(count) > len(prompt_ids):
        raise InputError(
            f"{folder} has images of {len(count) - len(prompt_ids)} prompts that are no longer there: run 'catimage generate'."
        )


def _label(entry: Entry, folder: Path, texts: dict[str, str], metrics: list[Metric], cache: Path, batch: int) -> pd.DataFrame:
    """The scores of one shard, a row an image and metric."""
    try:
        rows, digest = read_shard(folder, entry.shard)
    except DamagedShard as error:
        raise InputError(f"{folder}: the shard {entry.shard} is damaged ({error}): run 'catimage generate' again.") from error
    if digest != entry.digest:
        raise InputError(f"{folder}: the shard {entry.shard} is not the manifest's: run 'catimage generate' again.")
    keys: pd.DataFrame = rows.select(list(KEYS)).to_pandas()
    values = {metric.name: _read(_kept(cache, entry, metric), len(keys)) for metric in metrics}
    missing = [metric for metric in metrics if values[metric.name] is None]
    if missing:
        fresh = _score(rows.column("image").to_pylist(), [texts[i] for i in keys["prompt_id"]], missing, batch)
        for metric in missing:
            values[metric.name] = fresh[metric.name]
            _write(_kept(cache, entry, metric), fresh[metric.name])
    scored: pd.DataFrame = pd.concat([keys.assign(metric=m.name, version=m.version, value=values[m.name]) for m in metrics])
    return scored


def _score(images: list[bytes], prompts: list[str], metrics: list[Metric], batch: int) -> dict[str, np.ndarray]:
    """Scores by metric name, each float64 (n_images,)."""
    parts: dict[str, list[np.ndarray]] = {metric.name: [] for metric in metrics}
    for start in range(0, len(images), batch):
        pixels = np.stack([decode_image(data) for data in images[start : start + batch]])
        for metric in metrics:
            parts[metric.name].append(metric.score(pixels, prompts[start : start + batch]))
    return {name: np.concatenate(values) for name, values in parts.items()}


def _kept(cache: Path, entry: Entry, metric: Metric) -> Path:
    """Where the scores of these very images by this version of a metric are kept, in the shard's order."""
    return cache / f"{entry.digest[:32]}-{metric.name}-{metric.version}.npy"


def _read(path: Path, count: int) -> np.ndarray | None:
    """Kept scores, or None where there are none or they are damaged, so that they are made."""
    try:
        values: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return values if values.shape == (count,) else None


def _write(path: Path, values: np.ndarray) -> None:
    with replacing(path) as fresh, fresh.open("wb") as file:
        np.save(file, values)


def _collect(cache: Path, live: set[Path]) -> None:
    for path in set(cache.iterdir()) - live:
        path.unlink()
