"""The queue of a device: turns, batches, and the wait for the clients of a batch."""

from __future__ import annotations

import threading
import time

from catimage.serving.generator.fair_queue import FairQueue, QueuedTask
from catimage.serving.tasks import ImageTask


def queued(name: str, images: int = 1, candidate: str = "a") -> QueuedTask:
    """Return a task whose events are ignored."""
    return QueuedTask(ImageTask(name, candidate, "a prompt", tuple(range(images))), print)


def names(queue: FairQueue, size: int) -> list[str]:
    """Return the tasks of the images of the next batch."""
    images = queue.take(lambda _: size, 0.0) or []
    return [image.owner.task.request_id for image in images]


def test_large_tasks_share_a_batch_with_small_ones_and_wait_behind_them() -> None:
    queue = FairQueue()
    for task in (queued("large", 10), queued("x"), queued("other", 1, "b"), queued("y")):
        queue.put(task)
    assert names(queue, 4) == ["large", "x", "y", "large"]
    assert names(queue, 4) == ["other"]
    assert names(queue, 4) == ["large"] * 4


def test_gather_ends_when_enough_tasks_have_arrived() -> None:
    queue = FairQueue()
    arrivals = [threading.Timer(0.05 * (i + 1), queue.put, [queued(str(i))]) for i in range(3)]
    for arrival in arrivals:
        arrival.start()
    start = time.perf_counter()
    queue.gather(3, 30.0)
    assert 0.1 < time.perf_counter() - start < 20.0
    assert sorted(names(queue, 8)) == ["0", "1", "2"]


def test_gather_ends_after_its_time_and_when_the_queue_is_closed() -> None:
    queue = FairQueue()
    queue.put(queued("x"))
    start = time.perf_counter()
    queue.gather(2, 0.1)
    assert time.perf_counter() - start >= 0.1
    threading.Timer(0.05, queue.close).start()
    queue.gather(2, 60.0)
    assert time.perf_counter() - start < 30.0 and names(queue, 8) == ["x"]
