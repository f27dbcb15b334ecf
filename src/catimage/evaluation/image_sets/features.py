"""Features of the test prompts' images and of real images, for the set metrics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from catimage.common.arrays import Floats
from catimage.data.shards.images import decode_images, read_rows
from catimage.data.shards.manifest import ShardEntry
from catimage.evaluation.image_sets.jackknife import SetFeatures, prompt_groups
from catimage.metrics.metric import MetricContext
from catimage.metrics.sets.distances import ImageSet
from catimage.metrics.sets.features import Extractor, load_extractor
from catimage.metrics.sets.references import list_images, read_images, render_scenes, scenes_of
from catimage.metrics.sets.registry import SetMetric


@dataclass(frozen=True)
class PromptImages:
    """The images of the test prompts: one per prompt, candidate and seed.

    Attributes:
        folder: of the shards.
        entries: the live shards.
        prompt_ids: ids of the prompts.
        texts: the prompts.
        candidates: names.
        seeds: of the images.
        reference_images: folder of real images; None to render the scenes that prompts describe.
        context: encoder, device and weights of the networks.
    """

    folder: Path
    entries: list[ShardEntry]
    prompt_ids: list[str]
    texts: list[str]
    candidates: list[str]
    seeds: list[int]
    reference_images: Path | None
    context: MetricContext

    def features(
        self, metrics: list[SetMetric], group_seed: int
    ) -> Iterator[tuple[SetMetric, str, SetFeatures]]:
        """Yield each metric with the version of its network and the features that it reads.

        The metrics of one network follow each other, so that each image is processed once per
        network and the features of only one network are in memory.

        Args:
            metrics: the set metrics.
            group_seed: of the jackknife groups.
        """
        groups = prompt_groups(len(self.prompt_ids), group_seed)
        for network in dict.fromkeys(metric.network for metric in metrics):
            extractor = load_extractor(network, self.context)
            of_network = [metric for metric in metrics if metric.network == network]
            generated = self._generated(extractor)
            real = self._real(extractor, any(metric.needs_reference for metric in of_network))
            for metric in of_network:
                first, second = (_read_set(metric, extractor, images) for images in real)
                values = _read(metric, extractor, generated)
                yield metric, extractor.version, SetFeatures(values, first, second, groups)

    def _generated(self, extractor: Extractor) -> Floats:
        """Return the features of all images: float32 (n_prompts, n_candidates, n_seeds, width)."""
        shape = len(self.prompt_ids), len(self.candidates), len(self.seeds)
        features: Floats | None = None
        for entry in self.entries:
            if entry.candidate not in self.candidates:
                continue
            columns = ["prompt_id", "seed", "image"]
            rows = read_rows(self.folder, entry, columns, self.prompt_ids).to_pydict()
            if not rows["image"]:
                continue
            keys = list(zip(rows["prompt_id"], rows["seed"], strict=True))
            names = [f"{entry.candidate} of prompt {i} at seed {s}" for i, s in keys]
            values = extractor.all_features(decode_images(rows["image"], names))
            if features is None:
                features = np.full((*shape, values.shape[1]), np.nan, np.float32)
            prompts = [self.prompt_ids.index(i) for i, _ in keys]
            seeds = [self.seeds.index(s) for _, s in keys]
            features[prompts, self.candidates.index(entry.candidate), seeds] = values
        assert features is not None, "every prompt has images"
        return features

    def _real(self, extractor: Extractor, needed: bool) -> tuple[ImageSet | None, ImageSet | None]:
        """Return features of real images and, if they are rendered, of as many others."""
        if self.reference_images and needed:
            images = read_images(list_images(self.reference_images))
            values = extractor.all_features(images)
            return ImageSet(values, -1 - np.arange(len(values))), None
        scenes = scenes_of(self.texts)
        if isinstance(scenes, str):
            return None, None
        owners = np.repeat(np.arange(len(scenes)), len(self.seeds))
        first, second = (
            ImageSet(extractor.all_features(render_scenes(scenes, len(self.seeds), seed)), owners)
            for seed in (0, 1)
        )
        return first, second


def _read_set(metric: SetMetric, extractor: Extractor, images: ImageSet | None) -> ImageSet | None:
    if images is None:
        return None
    return ImageSet(_read(metric, extractor, images.values), images.prompt)


def _read(metric: SetMetric, extractor: Extractor, features: Floats) -> Floats:
    """Return the input of the metric: the features (..., width) or their logits (..., classes)."""
    if metric.output == "features":
        return features
    logits = extractor.logits(features.reshape(-1, features.shape[-1]))
    return logits.reshape(*features.shape[:-1], -1)
