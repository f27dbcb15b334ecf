"""Features of generated and of real images, from which the set metrics are computed."""

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
    """The images of the test prompts, equally many per prompt and candidate.

    Attributes:
        folder: the folder of the image shards.
        entries: the entries of the manifest, one per shard.
        prompt_ids: the ids of the prompts.
        texts: the texts of the prompts.
        candidates: the names of the candidates.
        n_images: the number of images per prompt and candidate.
        reference_images: a folder of real images; None to render the scenes that prompts describe.
        context: the encoder, the device and the weights of the networks that compute features.
    """

    folder: Path
    entries: list[ShardEntry]
    prompt_ids: list[str]
    texts: list[str]
    candidates: list[str]
    n_images: int
    reference_images: Path | None
    context: MetricContext

    def features(
        self, metrics: list[SetMetric], group_seed: int
    ) -> Iterator[tuple[SetMetric, str, SetFeatures]]:
        """Yield each metric with the version of its network and the features that it needs.

        Metrics that use the same network are yielded one after the other. So each network processes
        each image once, and only the features of one network are in memory.

        Args:
            metrics: the set metrics.
            group_seed: the seed with which prompts are assigned to jackknife groups.
        """
        groups = prompt_groups(len(self.prompt_ids), group_seed)
        for network in dict.fromkeys(metric.network for metric in metrics):
            extractor = load_extractor(network, self.context)
            of_network = [metric for metric in metrics if metric.network == network]
            generated = self._generated_features(extractor)
            real = self._real_features(
                extractor, any(metric.needs_reference for metric in of_network)
            )
            for metric in of_network:
                first, second = (_metric_input_set(metric, extractor, images) for images in real)
                values = _metric_input(metric, extractor, generated)
                yield metric, extractor.version, SetFeatures(values, first, second, groups)

    def _generated_features(self, extractor: Extractor) -> Floats:
        """Return the features of all generated images.

        The shape is (n_prompts, n_candidates, n_images, width), the type float32.
        """
        shape = len(self.prompt_ids), len(self.candidates), self.n_images
        rows_of = {identifier: row for row, identifier in enumerate(self.prompt_ids)}
        finished = np.zeros(shape[:2], int)
        features: Floats | None = None
        for entry in self.entries:
            if entry.candidate not in self.candidates:
                continue
            columns = ["prompt_id", "seed", "image"]
            rows = read_rows(self.folder, entry, columns, rows_of.keys()).to_pydict()
            if not rows["image"]:
                continue
            column = self.candidates.index(entry.candidate)
            keys = list(zip(rows["prompt_id"], rows["seed"], strict=True))
            names = [f"{entry.candidate} of prompt {i} at seed {s}" for i, s in keys]
            values = extractor.all_features(decode_images(rows["image"], names))
            if features is None:  # the first image gives the width
                features = np.full((*shape, values.shape[1]), np.nan, np.float32)
            for (identifier, _), value in zip(keys, values, strict=True):
                row = rows_of[identifier]
                features[row, column, finished[row, column]] = value
                finished[row, column] += 1
        assert features is not None, "every prompt has images"
        return features

    def _real_features(
        self, extractor: Extractor, needed: bool
    ) -> tuple[ImageSet | None, ImageSet | None]:
        """Return the features of real images, and of a second set of real images.

        If ``needed``, the images of the folder ``reference_images`` are used, without a second set.
        Otherwise, or without a folder, both sets are rendered from the scenes that the prompts
        describe; they are None if a prompt does not describe a scene.
        """
        if self.reference_images and needed:
            images = read_images(list_images(self.reference_images))
            values = extractor.all_features(images)
            return ImageSet(values, -1 - np.arange(len(values))), None
        scenes = scenes_of(self.texts)
        if isinstance(scenes, str):
            return None, None
        owners = np.repeat(np.arange(len(scenes)), self.n_images)
        first, second = (
            ImageSet(extractor.all_features(render_scenes(scenes, self.n_images, seed)), owners)
            for seed in (0, 1)
        )
        return first, second


def _metric_input_set(
    metric: SetMetric, extractor: Extractor, images: ImageSet | None
) -> ImageSet | None:
    if images is None:
        return None
    return ImageSet(_metric_input(metric, extractor, images.values), images.prompt)


def _metric_input(metric: SetMetric, extractor: Extractor, features: Floats) -> Floats:
    """Return the input that the metric declares: features or logits.

    Features have the shape (..., width), logits the shape (..., n_classes).
    """
    if metric.output == "features":
        return features
    logits = extractor.logits(features.reshape(-1, features.shape[-1]))
    return logits.reshape(*features.shape[:-1], -1)
