"""A generator of paid images: many requests at a time, none of which is sent twice."""

from __future__ import annotations

import time

from catimage.pool.device_memory import DeviceMemory
from catimage.pool.generators.hosted.errors import RequestOutcome, outcome_of
from catimage.pool.generators.hosted.rate_limiter import RateLimiter
from catimage.pool.kind import Generator
from catimage.pool.registry import kind_of
from catimage.pool.spec import Pool
from catimage.serving.generator.batches import candidate_of, report_image, without_prompts
from catimage.serving.generator.failures import (
    GenerationFailure,
    PromptModerated,
    TaskFailed,
    TaskTimedOut,
)
from catimage.serving.generator.fair_queue import FairQueue, QueuedImage
from catimage.serving.generator.speeds import Speeds


class PaidLane:
    """The queue of a remote generator, and the function of its threads.

    The generator does not retry requests: the router may use another candidate at once, and after
    an ambiguous failure, the image could be paid for twice. The rate limit is kept here, so that a
    request whose client has left while it waited is not sent.

    Args:
        pool: the pool.
        name: name of the generator.
        speeds: receives the seconds of each request.

    Attributes:
        queue: the queue.
        concurrency: number of threads that should call :meth:`run`.
    """

    def __init__(self, pool: Pool, name: str, speeds: Speeds) -> None:
        spec = pool.generators[name]
        rate_limit = getattr(spec, "requests_a_minute", None)
        changes = {"retries": 0, "requests_a_minute": None}
        used = {key: value for key, value in changes.items() if key in type(spec).model_fields}
        self._kind = kind_of(spec.model_copy(update=used), pool.folder)
        self._pool, self._name, self._speeds = pool, name, speeds
        self._limiter = RateLimiter(rate_limit) if rate_limit else None
        self.queue = FairQueue()
        self.concurrency: int = getattr(spec, "concurrency", 1)

    def load(self) -> Generator:
        """Check the generator and create its client.

        Raises:
            InputError: an API key or a package is missing.
        """
        self._kind.prepare(self._pool.candidates_of(self._name), "cpu")
        return self._kind.load(DeviceMemory("cpu"))

    def run(self, generator: Generator) -> None:
        """Send requests one after the other until the queue is closed."""
        while (images := self.queue.take(lambda _: 1, None)) is not None:
            for image in images:
                if self._limiter is not None:
                    self._limiter.wait()
                if not image.owner.cancelled:
                    self._request(generator, image)

    def _request(self, generator: Generator, image: QueuedImage) -> None:
        owner, start = image.owner, time.perf_counter()
        with owner.lock:
            owner.started = start if owner.started is None else owner.started
            owner.sent += 1
        try:
            candidate = candidate_of(self._pool, owner.key)
            pixels = generator.generate([image.prompt], candidate, [image.seed])[0]
        except Exception as error:  # generators raise exceptions of any type
            self.queue.cancel(owner)
            owner.report(_failure(image, error))
            return
        seconds = time.perf_counter() - start
        self._speeds.record_request(owner.task.candidate, seconds)
        with owner.lock:
            owner.compute_seconds = max(owner.compute_seconds, seconds)
            owner.largest_batch = 1
        report_image(image, pixels)


def _failure(image: QueuedImage, error: Exception) -> GenerationFailure:
    """Return the failure of a task one of whose requests failed."""
    owner, outcome = image.owner, outcome_of(error)
    where = f"candidate {owner.task.candidate!r}"
    if outcome is RequestOutcome.REFUSED:
        return PromptModerated(f"{where}: the provider refuses the prompt. Change the prompt.")
    reason = without_prompts(str(error), owner)
    if outcome is RequestOutcome.NOT_BILLED and owner.sent == 1:
        return TaskFailed(f"{where}: the request failed ({reason}). Use another candidate.")
    problem = "a request may have been billed, but has no result"
    return TaskTimedOut(f"{where}: {problem} ({reason}). Try again later.", billed=True)
