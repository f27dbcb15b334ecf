"""Labelling: scores of the images in shards by several metrics, with a cache of the scores.

Scores are cached per shard, metric, and version and code of the metric, so that an interrupted run
can be continued and only metrics that have changed are computed again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from catimage.common.files import damage_reported
from catimage.data.shards.manifest import ShardEntry
from catimage.data.shards.references import References
from catimage.data.shards.store import (
    KEYS,
    DamagedShard,
    decode_image,
    read_keys,
    read_shard,
    shard_path,
)
from catimage.errors import InputError
from catimage.execution.local import LocalExecutor, Progress
from catimage.metrics.composite import Composite
from catimage.metrics.metric import Metric, MetricContext
from catimage.metrics.metric_code import metric_code
from catimage.metrics.registry import declaration, get_metric, metric_class, required_metrics
from catimage.metrics.scoring import ImageBatch, score
from catimage.params import LabelParams
from catimage.pool.candidate_images import CandidateImages
from catimage.workspace import replacing

ShardScores = Mapping[str, np.ndarray]
"""The scores of one shard by metric: float64 (n_images,), NaN for an image without a score."""


@dataclass(frozen=True)
class ShardFolder:
    """A folder of image shards.

    Attributes:
        path: the folder.
        entries: the shards that the manifest lists.
        texts: the text of each prompt by ``prompt_id``.
        candidates: the candidates, their reference candidates, and the command that writes images.
    """

    path: Path
    entries: Sequence[ShardEntry]
    texts: Mapping[str, str]
    candidates: CandidateImages


class Labeller:
    """A scorer of images by the metrics of ``label.metrics``. The constructor loads all models.

    Args:
        shards: the folder of the images.
        cache: the folder of the cached scores.
        settings: the section ``label`` of params.yaml.
        context: the encoder, device and weights of the metrics.

    Raises:
        InputError: a metric is unknown, its weights are unavailable, or it needs reference images
            and a candidate has no reference candidate.
    """

    def __init__(
        self, shards: ShardFolder, cache: Path, settings: LabelParams, context: MetricContext
    ) -> None:
        required = required_metrics(settings.metrics, settings)
        for name in required:
            if metric_class(name).needs_reference:
                shards.candidates.check_references(name)
        self._shards, self._cache, self._settings = shards, cache, settings
        self._metrics = [get_metric(name, context=context) for name in required]
        self._references = References(shards.path, shards.entries, shards.candidates.references)

    def score(self, entries: Sequence[ShardEntry]) -> dict[ShardEntry, ShardScores]:
        """Score the images of shards, or read their scores from the cache.

        Returns:
            The scores of each shard.

        Raises:
            InputError: a shard is damaged or does not match the manifest, or a metric fails.
        """
        with LocalExecutor("label", sum(entry.images for entry in entries)) as executor:
            scores = executor.map(self._score_shard, entries)
        return dict(zip(entries, scores, strict=True))

    def tables(self, scores: Mapping[ShardEntry, ShardScores]) -> Iterator[pd.DataFrame]:
        """Yield the rows of the scores table, one metric and candidate at a time.

        Only the rows of one candidate are in memory at a time. Rows are sorted by metric,
        candidate, prompt and seed. Images without a score have no row.
        """
        versions = {metric.name: metric.version for metric in self._metrics}
        for name in sorted(set(self._settings.metrics)):
            declared = declaration(name, self._settings)
            composite = declared if isinstance(declared, Composite) else None
            for candidate in sorted({entry.candidate for entry in scores}):
                by_shard = {e: values for e, values in scores.items() if e.candidate == candidate}
                keys = pd.concat([read_keys(self._shards.path, entry.shard) for entry in by_shard])
                values = [composite.combine(v) if composite else v[name] for v in by_shard.values()]
                table = keys.assign(
                    metric=name,
                    version=composite.version(versions) if composite else versions[name],
                    value=np.concatenate(values),
                )
                yield table.dropna(subset="value").sort_values(["prompt_id", "seed"])

    def delete_stale_scores(self, entries: Sequence[ShardEntry]) -> None:
        """Delete all cached scores except those of ``entries`` by the current metrics."""
        current = {self._cache_file(entry, metric) for entry in entries for metric in self._metrics}
        for path in set(self._cache.glob("*")) - current:
            path.unlink()

    def _score_shard(self, entry: ShardEntry, progress: Progress) -> ShardScores:
        rows = self._read_shard(entry)
        keys: pd.DataFrame = rows.select(list(KEYS)).to_pandas()
        cached = {
            m.name: _read_scores(self._cache_file(entry, m), len(keys)) for m in self._metrics
        }
        scores = {name: values for name, values in cached.items() if values is not None}
        missing = [metric for metric in self._metrics if metric.name not in scores]
        if missing:
            images = rows.column("image").to_pylist()
            for metric, values in self._score_images(images, keys, missing).items():
                scores[metric.name] = values
                if np.isfinite(values).all():
                    _write_scores(self._cache_file(entry, metric), values)
        progress(entry.images)
        return scores

    def _read_shard(self, entry: ShardEntry) -> pa.Table:
        folder, command = self._shards.path, self._shards.candidates.command
        with damage_reported(shard_path(folder, entry.shard), command, DamagedShard):
            rows, digest = read_shard(folder, entry.shard)
        if digest != entry.digest:
            raise self._error(f"the shard {entry.shard} does not match the manifest")
        return rows

    def _error(self, problem: str) -> InputError:
        command = self._shards.candidates.command
        return InputError(f"{self._shards.path}: {problem}. Run 'catimage {command}' again.")

    def _score_images(
        self, images: list[bytes], keys: pd.DataFrame, metrics: Sequence[Metric]
    ) -> dict[Metric, np.ndarray]:
        """Compute scores, each float64 (n_images,), NaN if the reference image was refused."""
        values = {metric: np.full(len(images), np.nan) for metric in metrics}
        for rows, group in self._groups(keys, metrics):
            scores = self._score_rows([images[row] for row in rows], keys.iloc[rows], group)
            for metric in group:
                values[metric][rows] = scores[metric]
        return values

    def _groups(
        self, keys: pd.DataFrame, metrics: Sequence[Metric]
    ) -> list[tuple[np.ndarray, list[Metric]]]:
        """Return the positions of the images to score, and the metrics that score them."""
        rows = np.arange(len(keys))
        if not len(keys) or not any(metric.needs_reference for metric in metrics):
            return [(rows, list(metrics))] if len(keys) else []
        refused = self._references.refused(keys["candidate"].iloc[0], keys)
        if not refused.any():
            return [(rows, list(metrics))]
        print(f"label: the reference images of {refused.sum()} images were refused", flush=True)
        groups = [
            (rows, [metric for metric in metrics if not metric.needs_reference]),
            (rows[~refused], [metric for metric in metrics if metric.needs_reference]),
        ]
        return [(positions, group) for positions, group in groups if len(positions) and group]

    def _score_rows(
        self, images: list[bytes], keys: pd.DataFrame, metrics: Sequence[Metric]
    ) -> dict[Metric, np.ndarray]:
        """Compute scores, each float64 (n_images,). Every image is decoded once."""
        parts: dict[Metric, list[np.ndarray]] = {metric: [] for metric in metrics}
        with_references = any(metric.needs_reference for metric in metrics)
        for image_batch in self._batches(images, keys, with_references):
            for metric in metrics:
                parts[metric].append(score(metric, image_batch, self._settings.on_error))
        return {metric: np.concatenate(values) for metric, values in parts.items()}

    def _batches(
        self, images: list[bytes], keys: pd.DataFrame, with_references: bool
    ) -> Iterator[ImageBatch]:
        names = [
            f"{k.candidate} of prompt {k.prompt_id} at seed {k.seed}" for k in keys.itertuples()
        ]
        prompts = [self._shards.texts[i] for i in keys["prompt_id"]]
        encoded = self._encoded_references(keys) if with_references else None
        size = self._settings.batch_size
        for start in range(0, len(images), size):
            part = slice(start, start + size)
            pixels = np.stack([decode_image(data) for data in images[part]])
            references = None if encoded is None else _decode_references(encoded[part])
            yield ImageBatch(pixels, prompts[part], names[part], references)

    def _encoded_references(self, keys: pd.DataFrame) -> list[bytes | None]:
        try:
            return self._references.images(keys["candidate"].iloc[0], keys)
        except (FileNotFoundError, DamagedShard) as error:
            raise self._error("a shard of reference images is missing or damaged") from error

    def _cache_file(self, entry: ShardEntry, metric: Metric) -> Path:
        """Return the file of a shard's cached scores by one version of a metric.

        The name of the file has a digest of the images and, if the metric needs reference images, a
        digest of those. It also has the version and a digest of the code of the metric.
        """
        reference = f"{self._references.digest(entry)}-" if metric.needs_reference else ""
        version = f"{metric.name}-{metric.version}-{metric_code(metric)}"
        return self._cache / f"{entry.digest[:32]}-{reference}{version}.npy"


def _decode_references(encoded: list[bytes | None]) -> list[np.ndarray | None]:
    return [None if data is None else decode_image(data) for data in encoded]


def _read_scores(path: Path, count: int) -> np.ndarray | None:
    """Return cached scores, or None if the file is missing or damaged."""
    try:
        values: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return values if values.shape == (count,) else None


def _write_scores(path: Path, values: np.ndarray) -> None:
    with replacing(path) as fresh, fresh.open("wb") as file:
        np.save(file, values)
