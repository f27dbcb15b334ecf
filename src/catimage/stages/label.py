"""Stage label: the metrics of ``label.metrics`` on every image of the manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from catimage.data.schema import PROMPTS, SCORES, read_table, write_frames
from catimage.data.shards.lock import writing
from catimage.data.shards.manifest import Entry, read_manifest
from catimage.data.shards.references import References
from catimage.data.shards.store import KEYS, DamagedShard, decode_image, read_keys, read_shard
from catimage.errors import InputError
from catimage.metrics import Context, Metric, declaration, get_metric, needed
from catimage.metrics.score_frames import score_frames
from catimage.metrics.scoring import Batch, score
from catimage.params import Label, Params
from catimage.pool.candidate_images import Choices, choices_of
from catimage.workspace import Workspace, replacing


def run(workspace: Workspace, params: Params) -> None:
    """Writes ``data/scores.parquet``, sorted by metric, candidate, prompt and seed.

    Scores are kept by shard, metric and version in ``data/.labels``, so that a run that was killed
    continues, and a metric whose version changed is scored again by itself. An image is decoded
    once for all metrics. Composites are made of the scores of their terms.

    Raises:
        InputError: images are missing, damaged or not of these prompts, a metric is unknown or
            fails, no metric reference is named where one is needed, the scores were imported, or
            another process is labelling here.
    """
    if params.imported is not None and params.imported.kind == "scores":
        raise InputError(
            f"{workspace.scores} holds scores that were imported: there are no images to label."
        )
    prompts = read_table(workspace.prompts, PROMPTS, "sample")
    choices = choices_of(workspace, params)
    wanted = list(dict.fromkeys(params.label.metrics))
    scored = needed(wanted, params)
    for name in scored:
        if declaration(name, params).needs_reference:
            choices.check_references(name)
    entries = read_manifest(workspace.images)
    texts = dict(zip(prompts["prompt_id"], prompts["prompt"], strict=True))
    whole = params.imported is None or params.validation.complete_labels
    with writing(workspace.scores):
        _check_images(workspace.images, entries, list(texts), choices, whole)
        context = Context(params.encoder, params.label.device, params.label.weights)
        metrics = [get_metric(name, context=context) for name in scored]
        references = References(workspace.images, entries, choices.references)
        labeller = Labeller(
            workspace.images,
            workspace.scores.with_name(".labels"),
            texts,
            metrics,
            references,
            params.label,
            choices.missing,
        )
        values = {}
        with tqdm(total=sum(e.images for e in entries), unit="image", desc="label") as bar:
            for entry in entries:
                values[entry] = labeller.label(entry)
                bar.update(entry.images)
        write_frames(
            score_frames(workspace.images, values, metrics, wanted, params),
            workspace.scores,
            SCORES,
        )
        labeller.collect(entries)


def _check_images(
    folder: Path, entries: list[Entry], prompt_ids: list[str], choices: Choices, whole: bool
) -> None:
    """There are images of every candidate and of no other prompts, and if ``whole`` of every
    prompt, candidate and seed.

    From the shards' keys alone.
    """
    run = f"run 'catimage {choices.missing}'"
    absent = [c for c in choices.candidates if c not in {e.candidate for e in entries}]
    if absent:
        raise InputError(f"{folder} has no images of the candidate {absent[0]!r}: {run} first.")
    count, candidates, seeds = Counter[str](), set[str](), set[int]()
    try:
        for entry in entries:
            keys = read_keys(folder, entry.shard)
            count.update(keys["prompt_id"])
            candidates |= set(keys["candidate"])
            seeds |= set(keys["seed"])
    except (FileNotFoundError, DamagedShard) as error:
        raise InputError(
            f"{folder}: a shard is missing or damaged ({error}): {run} again."
        ) from error
    full = len(candidates) * len(seeds)
    short = sum(count[i] < full for i in prompt_ids)
    if short and whole:
        raise InputError(
            f"{folder}: {short} of {len(prompt_ids)} prompts lack images: {run} first."
        )
    strange = len(set(count) - set(prompt_ids))
    if strange:
        raise InputError(
            f"{folder} has images of {strange} prompts that are no longer there: {run}."
        )


@dataclass(frozen=True)
class Labeller:
    """Scores shards: ``folder`` has them, ``cache`` keeps what was scored, ``texts`` are the
    prompts by id.

    ``maker`` is the command that made them.
    """

    folder: Path
    cache: Path
    texts: dict[str, str]
    metrics: list[Metric]
    references: References
    params: Label
    maker: str = "generate"

    def label(self, entry: Entry) -> dict[str, np.ndarray]:
        """The scores of one shard by metric, each float64 (n_images,) in the shard's order, NaN
        where a metric could not score an image.

        Raises:
            InputError: the shard is damaged or not the manifest's, or a metric fails.
        """
        try:
            rows, digest = read_shard(self.folder, entry.shard)
        except DamagedShard as error:
            raise InputError(
                f"{self.folder}: the shard {entry.shard} is damaged ({error}): {self._again}."
            ) from error
        if digest != entry.digest:
            raise InputError(
                f"{self.folder}: the shard {entry.shard} is not the manifest's: {self._again}."
            )
        keys: pd.DataFrame = rows.select(list(KEYS)).to_pandas()
        kept = {metric.name: _read(self._kept(entry, metric), len(keys)) for metric in self.metrics}
        values = {name: there for name, there in kept.items() if there is not None}
        missing = [metric for metric in self.metrics if metric.name not in values]
        for metric, fresh in self._score(rows.column("image").to_pylist(), keys, missing).items():
            values[metric.name] = fresh
            if np.isfinite(fresh).all():
                _write(self._kept(entry, metric), fresh)
        return values

    @property
    def _again(self) -> str:
        return f"run 'catimage {self.maker}' again"

    def _score(
        self, images: list[bytes], keys: pd.DataFrame, metrics: list[Metric]
    ) -> dict[Metric, np.ndarray]:
        """Fresh scores, each float64 (n_images,)."""
        parts: dict[Metric, list[np.ndarray]] = {metric: [] for metric in metrics}
        for batch in (
            self._batches(images, keys, any(m.needs_reference for m in metrics)) if metrics else ()
        ):
            for metric in metrics:
                parts[metric].append(score(metric, batch, self.params.on_error))
        return {metric: np.concatenate(values) for metric, values in parts.items()}

    def _batches(self, images: list[bytes], keys: pd.DataFrame, compared: bool) -> Iterator[Batch]:
        """An image is decoded once."""
        names = [
            f"{k.candidate} of prompt {k.prompt_id} at seed {k.seed}" for k in keys.itertuples()
        ]
        prompts = [self.texts[i] for i in keys["prompt_id"]]
        references = self._references(keys) if compared else []
        for start in range(0, len(images), self.params.batch):
            cut = slice(start, start + self.params.batch)
            pixels = np.stack([decode_image(data) for data in images[cut]])
            compared_with = [
                None if data is None else decode_image(data) for data in references[cut]
            ]
            yield Batch(pixels, prompts[cut], names[cut], compared_with if compared else None)

    def _references(self, keys: pd.DataFrame) -> list[bytes | None]:
        try:
            return self.references.of(keys["candidate"].iloc[0], keys)
        except (FileNotFoundError, DamagedShard) as error:
            raise InputError(
                f"{self.folder}: a shard of reference images is missing or damaged ({error}):"
                f" {self._again}."
            ) from error

    def _kept(self, entry: Entry, metric: Metric) -> Path:
        """Where the scores of these very images (and references) by this version of a metric are
        kept, in the shard's order.
        """
        reference = f"{self.references.digest(entry)}-" if metric.needs_reference else ""
        return self.cache / f"{entry.digest[:32]}-{reference}{metric.name}-{metric.version}.npy"

    def collect(self, entries: list[Entry]) -> None:
        """Deletes kept scores that no live shard and metric has."""
        live = {self._kept(entry, metric) for entry in entries for metric in self.metrics}
        for path in set(self.cache.glob("*")) - live:
            path.unlink()


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
