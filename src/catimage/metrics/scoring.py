"""Scoring of a batch of images by one metric, with checks of the scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from catimage.errors import InputError
from catimage.metrics.metric import Metric

_TOLERANCE = 1e-6
"""The largest rounding error by which a score may exceed the range of its metric."""


@dataclass(frozen=True)
class ImageBatch:
    """Images to score.

    Attributes:
        images: uint8 (n, h, w, 3).
        prompts: the n prompts.
        names: a name of each of the n images for error messages.
        references: the n reference images, with None for a missing reference image; None if no
            metric needs reference images.
    """

    images: np.ndarray
    prompts: list[str]
    names: list[str]
    references: Sequence[np.ndarray | None] | None = None

    def halves(self) -> list[ImageBatch]:
        """Return the two halves of the batch; an empty list for a single image."""
        n = len(self.names)
        return [self._part(slice(0, n // 2)), self._part(slice(n // 2, n))] if n > 1 else []

    def _part(self, part: slice) -> ImageBatch:
        return ImageBatch(
            self.images[part],
            self.prompts[part],
            self.names[part],
            None if self.references is None else self.references[part],
        )


def score(
    metric: Metric, image_batch: ImageBatch, on_error: Literal["stop", "skip"] = "stop"
) -> np.ndarray:
    """Score a batch and check the scores.

    If the metric fails, the batch is halved until the failing images are found.

    Args:
        metric: the metric.
        image_batch: the images.
        on_error: with ``stop``, an error is raised for the first failing image. With ``skip``, a
            message is printed for each failing image.

    Returns:
        The scores, float64 (n,), NaN for skipped images.

    Raises:
        InputError: with ``stop``: the metric raises an exception, lacks a reference image, or
            returns a wrong number of scores, or a score that is not finite or out of range. The
            message names the image, or the batch if each of its images can be scored alone.
    """
    try:
        return _checked_scores(metric, image_batch)
    except InputError as error:
        if on_error == "stop":
            raise _first_error(metric, image_batch, error) from error
        if len(image_batch.names) == 1:
            print(f"label: no score: {error}", flush=True)
            return np.full(1, np.nan)
    return np.concatenate([score(metric, half, on_error) for half in image_batch.halves()])


def _first_error(metric: Metric, image_batch: ImageBatch, error: InputError) -> InputError:
    """Return the error of the first image that fails alone, or ``error`` if there is none."""
    for half in image_batch.halves():
        try:
            _checked_scores(metric, half)
        except InputError as error_of_half:
            return _first_error(metric, half, error_of_half)
    return error


def _checked_scores(metric: Metric, image_batch: ImageBatch) -> np.ndarray:
    """Score the whole batch.

    Raises:
        InputError: the metric fails, or a score is invalid.
    """
    where = f"label.metrics: {metric.name}, {image_batch.names[0]}"
    if len(image_batch.names) > 1:
        where += f" to {image_batch.names[-1]}"
    try:
        values = np.asarray(_call(metric, image_batch), float)
    except Exception as error:  # any exception that a user's metric can raise
        message = " ".join(str(error).split()).rstrip(".").removeprefix("label.metrics: ")
        if not isinstance(error, InputError):
            reason = f"{type(error).__name__}: {message}".rstrip(": ")
            message = f"{reason}. Correct the metric, or set label.on_error to skip"
        raise InputError(f"{where}: {message}.") from error
    if values.shape != (len(image_batch.names),):
        raise InputError(
            f"{where}: the metric returned an array of shape {values.shape} for"
            f" {len(image_batch.names)} images. Return one number per image."
        )
    low, high = metric.range
    valid = (values >= low - _TOLERANCE) & (values <= high + _TOLERANCE) & np.isfinite(values)
    if not valid.all():
        i = int(np.argmin(valid))
        raise InputError(
            f"label.metrics: {metric.name}, {image_batch.names[i]}: the score {values[i]} is"
            f" outside the range {low:g} to {high:g}. Correct the metric, or set label.on_error to"
            " skip."
        )
    return values


def _call(metric: Any, image_batch: ImageBatch) -> Any:
    if not metric.needs_reference:
        return metric.score(image_batch.images, image_batch.prompts)
    return metric.score(image_batch.images, image_batch.prompts, _references(image_batch))


def _references(image_batch: ImageBatch) -> np.ndarray:
    """Return the references, uint8 (n, h, w, 3); they may differ from the images in size.

    Raises:
        InputError: a reference is missing, or the references differ in size.
    """
    references = [image for image in image_batch.references or () if image is not None]
    if len(references) < len(image_batch.names):
        raise InputError(
            "the reference image is missing. Generate the image of the metric_reference candidate"
            " with the same prompt and seed"
        )
    if len({image.shape for image in references}) > 1:
        raise InputError(
            "the reference images of a batch differ in size. Generate all images of a candidate"
            " at one size"
        )
    return np.stack(references)
