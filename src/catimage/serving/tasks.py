"""What the router and the generator services exchange: tasks, their events and the status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ImageTask:
    """One call of one candidate: what the router sends to a generator service.

    Attributes:
        request_id: identifier of the request.
        candidate: name of the candidate.
        prompt: the prompt.
        seeds: one seed per image.
        negative_prompt: text that the images are guided away from; None for that of the candidate.
        previews: number of partial images per image.
        timeout: seconds after which the result is no longer wanted, counted from the arrival.
    """

    request_id: str
    candidate: str
    prompt: str
    seeds: tuple[int, ...]
    negative_prompt: str | None = None
    previews: int = 0
    timeout: float = 300.0


@dataclass(frozen=True)
class Preview:
    """A partial image, decoded from intermediate latents.

    Attributes:
        index: position of the image in the task.
        number: number of the preview of this image, from 0.
        pixels: uint8, (height, width, 3).
    """

    index: int
    number: int
    pixels: np.ndarray


@dataclass(frozen=True)
class FinishedImage:
    """A finished image, or one that the safety checker flagged.

    Attributes:
        index: position of the image in the task.
        pixels: uint8, (height, width, 3); None if the image was flagged.
        flagged: why the image was flagged; None if it was not.
    """

    index: int
    pixels: np.ndarray | None
    flagged: str | None = None


@dataclass(frozen=True)
class FinishedTask:
    """The last event of a task.

    Attributes:
        queue_seconds: time between the arrival of the task and the start of its first image.
        compute_seconds: time of the batches that contained its images.
        batch_size: number of images of the largest of these batches.
    """

    queue_seconds: float
    compute_seconds: float
    batch_size: int


TaskEvent = Preview | FinishedImage | FinishedTask


@dataclass(frozen=True)
class CandidateLoad:
    """The measured speed of a candidate on its device.

    Attributes:
        seconds: time of one image generated alone; 0 until it has been measured.
        batch_seconds: device time per image in a full batch; 0 for remote candidates.
        batch_size: largest batch, measured at the start and corrected by the batches of requests.
    """

    seconds: float
    batch_seconds: float
    batch_size: int

    def device_seconds(self, images: int) -> float:
        """Return the device time of some images, in as few batches as possible.

        The time of a batch is interpolated between one image and a full batch.
        """
        if self.batch_size == 1:
            return images * self.batch_seconds
        batches, remaining = divmod(images, self.batch_size)
        full_seconds = self.batch_size * self.batch_seconds
        slope = (full_seconds - self.seconds) / (self.batch_size - 1)
        last = self.seconds + (remaining - 1) * slope if remaining else 0.0
        return batches * full_seconds + last


@dataclass(frozen=True)
class GroupStatus:
    """The state of one generator service.

    Attributes:
        group: name of the group.
        ready: whether its generators are loaded.
        draining: whether it is shutting down and accepts no new tasks.
        candidates: the speed of each candidate; remote candidates have a batch size of 1.
        queued_images: number of images that wait.
        running_images: number of images in the current batch.
        queue_seconds: estimated device time until a task that arrives now starts.
        error: why the group cannot start; empty otherwise.
        paid: the candidates whose images a provider charges for, so that a request must not be
            repeated after an ambiguous failure.
        measured: whether the speed of all candidates has been measured; until then, measurements
            take a part of the device time.
    """

    group: str
    ready: bool
    draining: bool
    candidates: Mapping[str, CandidateLoad]
    queued_images: int = 0
    running_images: int = 0
    queue_seconds: float = 0.0
    error: str = ""
    paid: frozenset[str] = frozenset()
    measured: bool = True
