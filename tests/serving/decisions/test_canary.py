"""Requests that the challenger cannot decide, and decisions without predictions."""

import asyncio
import dataclasses
import logging

import pytest

from catimage.serving.decisions.decide import INSTEAD
from catimage.serving.decisions.versions import RouterVersion, Versions
from catimage.serving.decisions.worker import BatchWorker
from catimage.serving.state.store import State
from tests.serving.decisions.helpers import CROWDED, PLAIN, conditions, decide, decisions, request
from tests.trained_workspace import COSTS


@pytest.fixture
def state(tmp_path):
    shared = State.open(f"sqlite:///{tmp_path}/state.db")
    yield shared
    shared.close()


def test_the_champion_decides_if_the_challenger_fails(state, ridge, knn, caplog):
    service = decisions(state, ridge)
    (expected,) = decide(service, [request(CROWDED, lam=0.05)])
    broken = RouterVersion("broken", dataclasses.replace(knn.router, estimator=None))
    service.swap(Versions(ridge, broken, share=1.0))
    with caplog.at_level(logging.ERROR):
        (answer,) = decide(service, [request(CROWDED, lam=0.05)])
    assert answer.router_version == "1" and answer.candidate == expected.candidate
    assert answer.propensities == expected.propensities and INSTEAD in caplog.text


def test_the_champion_decides_if_the_challenger_lacks_the_candidates(state, ridge):
    service = decisions(state, ridge)
    small = dataclasses.replace(ridge.router, candidates=["other-1", "other-2", "other-4"])
    service.swap(Versions(ridge, RouterVersion("small", small), share=1.0))
    sizes = dict.fromkeys(COSTS, (64, 64)) | dict.fromkeys(small.candidates, (8, 8))
    fields = {"size": (64, 64), "lam": 0.05}
    (answer,) = decide(service, [request(PLAIN, **fields)], conditions(sizes=sizes))
    assert answer.router_version == "1"


def test_the_tokens_of_a_pinned_candidate_are_counted_without_an_encoding(state, knn, monkeypatch):
    service = decisions(state, knn)
    prompts = ("two green dots", "blue " * 100)
    routed = decide(service, [request(p) for p in prompts])
    monkeypatch.setattr(type(knn.encoder), "encode", lambda *_: pytest.fail("encoded"))
    pinned = decide(service, [request(p, model="mini-4") for p in prompts])
    assert [(a.tokens, a.truncated) for a in pinned] == [(a.tokens, a.truncated) for a in routed]
    assert pinned[1].tokens == knn.encoder.context and pinned[1].truncated


def test_the_thread_survives_an_exception_that_is_no_exception_class():
    class Panic(BaseException):
        pass

    def process(items):
        if "panic" in items:
            raise Panic
        return items

    async def run():
        worker = BatchWorker(process, "w")
        with pytest.raises(RuntimeError, match="Panic"):
            await asyncio.wait_for(worker.submit(["panic"]), 5)
        answer = await asyncio.wait_for(worker.submit(["next"]), 5)
        worker.close()
        return answer

    assert asyncio.run(run()) == ["next"]
