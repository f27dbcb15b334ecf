"""Scores of a batch of images by one metric, held against what the metric declares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from catimage.errors import InputError
from catimage.metrics.metric import Metric

_SLACK = 1e-6
"""How far rounding may carry a score out of its metric's range."""


@dataclass(frozen=True)
class ImageBatch:
    """Images uint8 (n, h, w, 3), their prompts, what errors call them, and their references (None
    for one that is not there).
    """

    images: np.ndarray
    prompts: list[str]
    names: list[str]
    references: Sequence[np.ndarray | None] | None = None

    def halves(self) -> list[ImageBatch]:
        """The batch in two; of one image, none."""
        n = len(self.names)
        return [self._part(slice(0, n // 2)), self._part(slice(n // 2, n))] if n > 1 else []

    def _part(self, s: slice) -> ImageBatch:
        return ImageBatch(
            self.images[s],
            self.prompts[s],
            self.names[s],
            None if self.references is None else self.references[s],
        )


def score(
    metric: Metric, batch: ImageBatch, on_error: Literal["stop", "skip"] = "stop"
) -> np.ndarray:
    """float64 (n,); with ``skip``, NaN for images that the metric cannot score, each of which is
    named on standard output.

    Raises:
        InputError: with ``stop``, the metric fails, has no reference image, or returns the wrong
            length, no finite number or one outside of its range; says for which image, or for which
            images if each by itself is scored well.
    """
    try:
        return _checked(metric, batch)
    except InputError as error:
        if on_error == "stop":
            raise _narrowed(metric, batch, error) from error
        if len(batch.names) == 1:
            print(f"label: no score: {error}", flush=True)
            return np.full(1, np.nan)
    return np.concatenate([score(metric, half, on_error) for half in batch.halves()])


def _narrowed(metric: Metric, batch: ImageBatch, error: InputError) -> InputError:
    """What is wrong with the first image that fails by itself; ``error``, which is about all of
    them, where none does.
    """
    for half in batch.halves():
        try:
            _checked(metric, half)
        except InputError as found:
            return _narrowed(metric, half, found)
    return error


def _checked(metric: Metric, batch: ImageBatch) -> np.ndarray:
    """The metric's values for the whole batch.

    Raises:
        InputError: it has not scored each image properly.
    """
    where = f"metric {metric.name!r}, {batch.names[0]}" + (
        f" to {batch.names[-1]}" if len(batch.names) > 1 else ""
    )
    try:
        values = np.asarray(_call(metric, batch), float)
    except Exception as error:  # whatever a metric of a user's raises
        said = f"{error}" if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        raise InputError(f"{where}: {' '.join(said.split()).rstrip('.')}.") from error
    if values.shape != (len(batch.names),):
        raise InputError(
            f"{where}: it returned scores of shape {values.shape} for {len(batch.names)} images;"
            " return one number an image."
        )
    low, high = metric.range
    bad = ~((values >= low - _SLACK) & (values <= high + _SLACK) & np.isfinite(values))
    if bad.any():
        i = int(np.argmax(bad))
        raise InputError(
            f"metric {metric.name!r}, {batch.names[i]}: its score is {values[i]}, its range {low:g}"
            f" to {high:g}."
        )
    return values


def _call(metric: Any, batch: ImageBatch) -> Any:
    """Hands over the references where the metric wants them."""
    if not metric.needs_reference:
        return metric.score(batch.images, batch.prompts)
    return metric.score(batch.images, batch.prompts, _references(batch))


def _references(batch: ImageBatch) -> np.ndarray:
    """uint8 (n, h, w, 3), which may be of another size than the images.

    Raises:
        InputError: one is not there, or of another size than the first.
    """
    found = [image for image in batch.references or () if image is not None]
    if len(found) < len(batch.names):
        raise InputError(
            "there is no reference image to compare with: make that of its metric_reference, same"
            " prompt and seed"
        )
    if len({image.shape for image in found}) > 1:
        raise InputError(
            "the reference images of a batch are of several sizes: all images of a candidate must"
            " have one size"
        )
    return np.stack(found)
