"""Refusals: prompts for which a model, its server or its safety checker returns no image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from catimage.data.shards.manifest import ShardEntry
from catimage.errors import InputError


class RefusedImages(InputError):
    """Some images of a batch were refused.

    Args:
        where: file and key of the generator, for the message.
        images: the other images of the batch by position, each uint8 of shape (height, width, 3).
        reasons: the reason of each refusal by position. The message has the first one.
        fix: how to correct the error, a sentence without full stop.

    Attributes:
        images, reasons: as above.
    """

    def __init__(
        self,
        where: str,
        images: Mapping[int, np.ndarray],
        reasons: Mapping[int, str],
        fix: str,
    ) -> None:
        super().__init__(f"{where}: {reasons[min(reasons)]}. {fix}.")
        self.images, self.reasons = images, reasons


def report_refusals(entries: Sequence[ShardEntry]) -> None:
    """Check that every candidate has images, and print the number of refused images.

    Raises:
        InputError: all images of a candidate were refused.
    """
    images, refused = Counter[str](), Counter[str]()
    for entry in entries:
        images[entry.candidate] += entry.images
        refused[entry.candidate] += entry.refused
    for candidate, count in refused.items():
        if count and not images[candidate]:
            raise InputError(
                f"generate: all {count} images of the candidate {candidate!r} were refused. Correct"
                " or remove the candidate, or change the prompts."
            )
    if refused.total():
        counts = ", ".join(f"{name} {count}" for name, count in refused.items() if count)
        print(
            f"generate: {refused.total()} of {refused.total() + images.total()} images were refused"
            f" ({counts}). They have no scores, and estimators are trained without them.",
            flush=True,
        )
