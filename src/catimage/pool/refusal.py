"""Refusals: prompts for which a model, its server or its safety checker returns no image."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

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
