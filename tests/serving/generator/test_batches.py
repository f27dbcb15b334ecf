"""Failures of batches: memory, one bad prompt, flagged images, and a lost device."""

import weakref

import numpy as np
import pytest
import torch

from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.loading import load_pool
from catimage.pool.refusal import RefusedImages
from catimage.serving.generator.batches import BatchRunner, DeviceLost, preview_steps
from catimage.serving.generator.failures import TaskFailed
from catimage.serving.generator.fair_queue import FairQueue, QueuedTask
from catimage.serving.generator.speeds import Speeds
from catimage.serving.tasks import CandidateLoad, FinishedImage, FinishedTask
from tests.serving.generator.helpers import task


@pytest.fixture(scope="module")
def cache():
    return GeneratorCache(load_pool("tiny"), "cpu", ["tiny-turbo"])


class Bench:
    """A runner whose generator fails as ``problem(prompts, generated)`` says."""

    def __init__(self, cache, monkeypatch, problem) -> None:
        generator = cache.get("tiny-turbo")
        original, self.sizes = generator.generate, []

        def generate(prompts, candidate, seeds, encoded=None):
            self.sizes.append(len(prompts))
            problem(prompts, lambda: original(prompts, candidate, seeds, encoded))
            return original(prompts, candidate, seeds, encoded)

        monkeypatch.setattr(generator, "generate", generate)
        self.queue, self.events = FairQueue(), {}
        self.speeds = Speeds({"tiny-turbo": "tiny-turbo"})
        self.speeds.set("tiny-turbo", CandidateLoad(0.1, 0.1, 4))
        self.runner = BatchRunner(cache, self.queue, self.speeds)

    def run(self, *tasks) -> None:
        for of in tasks:
            self.events[of.request_id] = []
            self.queue.put(QueuedTask(of, self.events[of.request_id].append))
        while images := self.queue.take(self.speeds.limit, 0):
            self.runner.run(images)


def no_problem(prompts, generated):
    """Do nothing."""


def test_a_batch_that_exceeds_the_memory_is_divided(cache, monkeypatch):
    def problem(prompts, generated):
        if len(prompts) > 1:
            raise torch.OutOfMemoryError("CUDA error: out of memory")

    bench = Bench(cache, monkeypatch, problem)
    bench.run(task("tiny-turbo", range(6)))
    assert bench.sizes == [4, 2, 1, 1, 2, 1, 1, 1, 1]
    assert isinstance(bench.events["r"][-1], FinishedTask)
    assert sorted(e.index for e in bench.events["r"][:-1]) == list(range(6))
    assert bench.speeds.limit("tiny-turbo") == 1


def test_the_tensors_of_a_batch_are_freed_before_it_is_divided(cache, monkeypatch):
    kept = []

    def problem(prompts, generated):
        assert [reference for reference in kept if reference() is not None] == []
        if len(prompts) > 1:
            activations = torch.zeros(4)
            kept.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("CUDA out of memory")

    bench = Bench(cache, monkeypatch, problem)
    bench.run(task("tiny-turbo", range(4)))
    assert bench.sizes == [4, 2, 1, 1, 2, 1, 1] and len(kept) == 3
    assert isinstance(bench.events["r"][-1], FinishedTask)


def test_one_bad_prompt_does_not_fail_the_other_tasks_of_its_batch(cache, monkeypatch, caplog):
    def problem(prompts, generated):
        if "bad prompt" in prompts:
            raise ValueError("cannot draw 'bad prompt'")

    bench = Bench(cache, monkeypatch, problem)
    bench.run(
        task("tiny-turbo", prompt="bad prompt", request_id="bad"),
        task("tiny-turbo", request_id="good"),
    )
    assert isinstance(bench.events["good"][-1], FinishedTask)
    (failure,) = bench.events["bad"]
    assert isinstance(failure, TaskFailed) and "cannot draw" in str(failure)
    assert "bad prompt" not in str(failure) + caplog.text and "request bad" in caplog.text


def test_a_flagged_image_is_reported_without_pixels_and_the_others_are_delivered(
    cache, monkeypatch
):
    def problem(prompts, generated):
        images = generated()
        raise RefusedImages("here", {0: images[0], 2: images[2]}, {1: "flagged"}, "Remove it")

    bench = Bench(cache, monkeypatch, problem)
    bench.run(task("tiny-turbo", range(3)))
    images = [e for e in bench.events["r"] if isinstance(e, FinishedImage)]
    assert [e.flagged for e in images] == [None, "safety_checker", None]
    assert images[1].pixels is None and all(np.ptp(images[i].pixels) > 0 for i in (0, 2))
    assert isinstance(bench.events["r"][-1], FinishedTask)


def test_an_error_of_the_device_ends_the_lane(cache, monkeypatch):
    def problem(prompts, generated):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(DeviceLost, match="illegal memory access"):
        Bench(cache, monkeypatch, problem).run(task("tiny-turbo"))


def test_images_of_tasks_take_turns(cache, monkeypatch):
    bench = Bench(cache, monkeypatch, no_problem)
    bench.run(
        task("tiny-turbo", range(7), request_id="large"),
        task("tiny-turbo", [1], request_id="small"),
    )
    assert bench.sizes == [4, 4]
    assert bench.events["small"][-1].batch_size == 4
    assert len(bench.events["large"]) == 8


@pytest.mark.parametrize(
    ("previews", "steps", "expected"),
    [(0, 8, {}), (1, 8, {4: 0}), (3, 8, {2: 0, 4: 1, 6: 2}), (3, 2, {1: 0}), (2, 1, {})],
)
def test_previews_are_at_equal_intervals_before_the_last_step(previews, steps, expected):
    assert preview_steps(previews, steps) == expected
