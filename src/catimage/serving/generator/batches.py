"""Makes batches of images with the generators of a device, and reports the events of their tasks.

All methods are called by the one thread of the device. Schedulers and caching methods have a
state, and generators share modules, so two calls of generators never run at the same time.
"""

from __future__ import annotations

import logging
import math
import time
import traceback
from collections.abc import Mapping, Sequence

import numpy as np

from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.kind import Generator
from catimage.pool.refusal import RefusedImages
from catimage.pool.registry import kind_of
from catimage.pool.spec import Candidate, Pool
from catimage.pool.stepwise import DenoisingStep, GenerationStopped, has_step_hook
from catimage.serving.generator.encoding import encode_prompts
from catimage.serving.generator.failures import TaskFailed
from catimage.serving.generator.fair_queue import BatchKey, FairQueue, QueuedImage, QueuedTask
from catimage.serving.generator.speeds import Speeds
from catimage.serving.tasks import FinishedImage, FinishedTask, Preview

FLAGGED = "safety_checker"
"""The reason in the event of an image that the safety checker flagged."""
_LOG = logging.getLogger(__name__)


class DeviceLost(RuntimeError):
    """The device cannot be used in this process, which must be restarted."""


class BatchRunner:
    """Makes batches.

    Args:
        cache: the generators.
        queue: the queue, from which the images of failed tasks are removed.
        speeds: the speeds, which every batch updates.
    """

    def __init__(self, cache: GeneratorCache, queue: FairQueue, speeds: Speeds) -> None:
        self._cache, self._queue, self._speeds = cache, queue, speeds

    def run(self, images: Sequence[QueuedImage]) -> None:
        """Make a batch. Failures are reported to the tasks.

        After an error of memory, the batch is divided. After another error, the images of each task
        are made separately, so that a task fails only because of its own prompt.

        Raises:
            DeviceLost: the device reports an error after which it cannot be used.
        """
        images = [image for image in images if not image.owner.cancelled]
        if not images:
            return
        start = time.perf_counter()
        owners = list(dict.fromkeys(image.owner for image in images))
        for owner in owners:
            owner.started = start if owner.started is None else owner.started
        try:
            pixels, flagged = self._generate(images)
        except GenerationStopped:
            return
        except Exception as error:  # generators raise exceptions of any type
            self._recover(images, owners, error)
            return
        seconds = time.perf_counter() - start
        self._speeds.record(images[0].owner.task.candidate, len(images), seconds)
        for owner in owners:
            owner.compute_seconds += seconds
            owner.largest_batch = max(owner.largest_batch, len(images))
        for position, image in enumerate(images):
            report_image(image, None if position in flagged else pixels[position])

    def _generate(
        self, images: Sequence[QueuedImage]
    ) -> tuple[Mapping[int, np.ndarray], Mapping[int, str]]:
        """Return the images by position, and the reasons of flagged images by position."""
        candidate = candidate_of(self._cache.pool, images[0].owner.key)
        generator = self._cache.get(candidate.generator)
        owners = list(dict.fromkeys(image.owner for image in images))
        prompts, seeds = [image.prompt for image in images], [image.seed for image in images]
        encoded = encode_prompts(generator, owners)
        try:
            pixels = self._call(generator, prompts, candidate, seeds, encoded, images)
        except RefusedImages as error:
            return error.images, error.reasons
        return dict(enumerate(pixels)), {}

    def _call(
        self,
        generator: Generator,
        prompts: list[str],
        candidate: Candidate,
        seeds: list[int],
        encoded: object,
        images: Sequence[QueuedImage],
    ) -> np.ndarray:
        """Call the generator, with a hook after every step if it supports one."""
        if not has_step_hook(generator):
            return generator.generate(prompts, candidate, seeds, encoded)

        def on_step(step: DenoisingStep) -> None:
            if all(image.owner.cancelled for image in images):
                raise GenerationStopped
            _report_previews(images, step)

        arguments = {"on_step": on_step}
        return generator.generate(prompts, candidate, seeds, encoded, **arguments)

    def _recover(
        self, images: Sequence[QueuedImage], owners: Sequence[QueuedTask], error: Exception
    ) -> None:
        """Divide a batch that has failed, or report the failure of its only task."""
        size = len(images)
        if "CUDA error" in str(error) and not is_out_of_memory(error):
            raise DeviceLost(f"device: {without_prompts(str(error), owners[0])}.") from error
        if is_out_of_memory(error):
            traceback.clear_frames(error.__traceback__)  # they refer to the tensors of the batch
            _free_memory()
        if is_out_of_memory(error) and size > 1:
            candidate = self._cache.pool.candidate(images[0].owner.task.candidate)
            self._speeds.bound(candidate.generator, size // 2)
            self.run(images[: size // 2])
            self.run(images[size // 2 :])
        elif len(owners) > 1:
            for owner in owners:
                self.run([image for image in images if image.owner is owner])
        else:
            self._queue.cancel(owners[0])
            owners[0].report(failure_of_generator(owners[0], error))


def candidate_of(pool: Pool, key: BatchKey) -> Candidate:
    """Return the candidate of a batch, with the negative prompt of its requests.

    An empty negative prompt replaces that of the candidate, and has no effect on a candidate that
    takes none.

    Raises:
        KeyError: the pool has no such candidate.
        ValueError: the candidate takes no negative prompt.
    """
    candidate, negative_prompt = pool.candidate(key[0]), key[1]
    if negative_prompt is None:
        return candidate
    kind = kind_of(pool.generators[candidate.generator], pool.folder)
    changed = kind.with_negative_prompt(candidate, negative_prompt)
    if changed is None and not negative_prompt:
        return candidate
    if changed is None:
        raise ValueError(f"the candidate {key[0]!r} takes no negative prompt")
    return changed


def preview_steps(previews: int, steps: int) -> dict[int, int]:
    """Return the steps after which an image has previews, with the number of each preview.

    The previews are at equal intervals. There are fewer if the image has too few steps, and none
    after the last step.
    """
    due = {math.ceil(steps * (i + 1) / (previews + 1)) for i in range(previews)}
    return {step: number for number, step in enumerate(sorted(due - {steps}))}


def _report_previews(images: Sequence[QueuedImage], step: DenoisingStep) -> None:
    """Decode and report the previews that are due after a step."""
    due = {
        position: number
        for position, image in enumerate(images)
        if image.owner.task.previews and not image.owner.cancelled
        for number in [preview_steps(image.owner.task.previews, step.steps).get(step.number)]
        if number is not None
    }
    if due and step.decode is not None:
        pixels = step.decode(list(due))
        for (position, number), image in zip(due.items(), pixels, strict=True):
            images[position].owner.report(Preview(images[position].index, number, image))


def report_image(image: QueuedImage, pixels: np.ndarray | None) -> None:
    """Report an image (None if it is flagged), and the end of the task after its last image."""
    owner = image.owner
    with owner.lock:
        owner.report(FinishedImage(image.index, pixels, FLAGGED if pixels is None else None))
        owner.remaining -= 1
        if owner.remaining == 0:
            queued = (owner.started or owner.arrival) - owner.arrival
            owner.report(FinishedTask(queued, owner.compute_seconds, owner.largest_batch))


def failure_of_generator(owner: QueuedTask, error: Exception) -> TaskFailed:
    """Log an exception of a generator, and return the failure. Prompts are removed."""
    reason = without_prompts(f"{type(error).__name__}: {error}", owner)
    _LOG.warning("request %s: the generator fails (%s)", owner.task.request_id, reason)
    name = owner.task.candidate
    return TaskFailed(f"candidate {name!r}: the generator fails ({reason}). Use another one.")


def without_prompts(message: str, owner: QueuedTask) -> str:
    """Return one line of at most 300 characters, without the prompts of a task."""
    for text in filter(None, (owner.task.prompt, owner.task.negative_prompt)):
        message = message.replace(repr(text), "(prompt)").replace(text, "(prompt)")
    return " ".join(message.split())[:300].rstrip(".")


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an exception reports that the memory of the device is too small."""
    import torch

    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError)
        and any(text in str(error) for text in ("allocate memory", "out of memory"))
    )


def _free_memory() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
