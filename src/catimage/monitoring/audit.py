"""Audits: logged prompts are generated again with several candidates and scored."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from catimage.common.arrays import Floats
from catimage.data.audits import AUDITS
from catimage.errors import InputError, nearest
from catimage.metrics.composite import Composite
from catimage.metrics.metric import MetricContext
from catimage.metrics.registry import declaration, get_metric, required_metrics
from catimage.metrics.scoring import ImageBatch, score
from catimage.params import Params
from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.registry import kind_class
from catimage.pool.spec import Pool


@dataclass(frozen=True)
class _Image:
    """An image to generate: a row of the log, and a candidate."""

    row: dict[str, Any]
    candidate: str


def auditable(rows: pd.DataFrame) -> pd.DataFrame:
    """Select the requests that succeeded, and whose prompt and predictions were logged."""
    predicted = rows["qualities"].map(bool).astype(bool)
    return rows[(rows["status"] < 400) & rows["prompt"].notna() & predicted]


def audit(rows: pd.DataFrame, pool: Pool, params: Params) -> pd.DataFrame:
    """Generate images of logged prompts, and score them by the routed metric.

    Args:
        rows: auditable rows of the decision log.
        pool: the pool of the router.
        params: the parameters of the workspace, whose ``metric``, ``encoder``, ``label`` and
            ``generate.device`` are used.

    Returns:
        Rows of :data:`~catimage.data.audits.AUDITS`.

    Raises:
        InputError: an image cannot be generated or scored; ``monitor.audit.candidates`` names an
            unknown candidate; or the metric needs reference images.
    """
    settings = params.monitor.audit
    declared = declaration(params.metric, params.label)
    if declared.needs_reference:
        raise InputError(
            f"monitor.audit: the metric {params.metric!r} needs reference images, which logged"
            " prompts do not have. Set monitor.audit.prompts to 0."
        )
    images = [
        _Image({str(key): value for key, value in row.items()}, name)
        for row in rows.to_dict("records")
        for name in _candidates(row, pool, settings.candidates)
    ]
    if not images:
        return AUDITS.empty_table().to_pandas()  # type: ignore[no-any-return]
    pixels = _generate(images, pool, settings.seed, params.generate.device)
    scores = _scores(images, pixels, declared, params)
    table = [
        _row(image, settings.seed, params.metric, float(value))
        for image, value in zip(images, scores, strict=True)
    ]
    return pd.DataFrame(table, columns=AUDITS.names)


def _row(image: _Image, seed: int, metric: str, value: float) -> tuple[Any, ...]:
    """Return a row of the table of audits."""
    row = image.row
    return (
        row["time"],
        row["request_id"],
        row["prompt_id"],
        row["router_version"],
        image.candidate,
        image.candidate == row["candidate"],
        seed,
        metric,
        float(row["qualities"][image.candidate]),
        value,
    )


def _candidates(row: Mapping[Hashable, Any], pool: Pool, named: Sequence[str]) -> list[str]:
    """Return the candidates to generate for a request.

    By default, these are the selected candidate, and another one that depends only on the id of the
    request. All candidates take turns, so that most images are not of the most expensive one.
    """
    names, predicted = [c.candidate for c in pool.candidates], row["qualities"]
    if unknown := [name for name in named if name not in names]:
        raise InputError(
            f"monitor.audit.candidates: the pool has no candidate {unknown[0]!r}"
            f"{nearest(unknown[0], names)}. Use one of {', '.join(names)}."
        )
    if named:
        return list(dict.fromkeys(name for name in named if name in predicted))
    local = [name for name in predicted if name in names and not _is_remote(pool, name)]
    used = [name for name in local if name == row["candidate"]]
    others = [name for name in local if name != row["candidate"]]
    draw = int(hashlib.sha256(str(row["request_id"]).encode()).hexdigest(), 16)
    return [*used, *others[draw % len(others) :][:1]] if others else used


def _is_remote(pool: Pool, name: str) -> bool:
    return kind_class(pool.generators[pool.candidate(name).generator].kind).remote


def _generate(images: list[_Image], pool: Pool, seed: int, device: str) -> list[np.ndarray]:
    """Return the image of each entry, uint8 (height, width, 3); generators are loaded in turn."""
    generators = [pool.candidate(image.candidate).generator for image in images]
    cache = GeneratorCache(pool, device, dict.fromkeys(generators))
    cache.prepare()
    pixels: dict[int, np.ndarray] = {}
    for name in cache.names:
        generator = cache.get(name)
        for i, image in enumerate(images):
            if generators[i] == name:
                candidate = pool.candidate(image.candidate)
                pixels[i] = generator.generate([image.row["prompt"]], candidate, [seed])[0]
        cache.release(name)
    return [pixels[i] for i in range(len(images))]


def _scores(
    images: list[_Image], pixels: list[np.ndarray], declared: Any, params: Params
) -> Floats:
    """Score the images by the routed metric or composite, (n_images,)."""
    context = MetricContext(params.encoder, params.label.device, params.label.weights)
    metrics = [
        get_metric(name, context=context)
        for name in required_metrics([params.metric], params.label)
    ]
    batches = [
        ImageBatch(array[None], [image.row["prompt"]], [f"the image of {image.candidate}"])
        for image, array in zip(images, pixels, strict=True)
    ]
    values = {
        metric.name: np.concatenate([score(metric, image_batch) for image_batch in batches])
        for metric in metrics
    }
    if isinstance(declared, Composite):
        return np.asarray(declared.combine(values), float)
    return np.asarray(values[declared.name], float)
