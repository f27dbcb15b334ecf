"""Decisions of the service."""

import asyncio
import dataclasses
import logging

import numpy as np
import pytest

from catimage.encoders.light_clip import LightClipEncoder
from catimage.router import Router
from catimage.serving.decisions.decide import Decisions
from catimage.serving.decisions.versions import RouterVersion, Versions
from catimage.serving.messages import ApiKey, ServingError
from catimage.serving.state.store import State
from tests.serving.decisions.helpers import (
    CATALOGUE,
    CROWDED,
    IDLE,
    PLAIN,
    conditions,
    decide,
    decisions,
    request,
)
from tests.trained_workspace import COSTS, QUALITY, prompts_of


@pytest.fixture
def state(tmp_path):
    shared = State.open(f"sqlite:///{tmp_path}/state.db")
    yield shared
    shared.close()


def test_the_decision_is_that_of_the_router(state, ridge):
    service = decisions(state, ridge, pace=False)
    requests = [request(PLAIN, lam=0.05), request(CROWDED, lam=0.05), request(PLAIN, budget=4.0)]
    answers = decide(service, requests)
    expected = [ridge.router.route([r.prompt], r.lam, r.budget, seed=0)[0] for r in requests]
    assert [a.candidate for a in answers] == [e.candidate for e in expected]
    assert [a.qualities for a in answers] == [e.qualities for e in expected]
    assert [a.lam for a in answers] == [e.lam for e in expected]
    assert answers[0].scope is None and answers[0].router_version == "1"
    assert answers[1].ranked[0] == "mini-4" and set(answers[1].ranked) == set(COSTS)
    assert answers[0].costs == COSTS and answers[0].seconds > 0
    service.close()


def test_the_live_lambda_decides_and_is_reported_with_its_budget(state, ridge):
    service = decisions(state, ridge)
    (free,), (cheap,) = (decide(service, [request(quality=q)]) for q in (None, "low"))
    assert (free.scope, cheap.scope) == ("service", "quality:low")
    assert cheap.lam > free.lam
    assert cheap.candidate == "mini-1"


def test_a_decision_is_repeatable_from_its_draw_and_shares_follow_the_randomized_rule(state, ridge):
    service = decisions(state, ridge, pace=False, budget="60%")
    rule = ridge.router.rule_for(budget=2.4)
    assert len(rule.share) == 2
    requests = [request(PLAIN, number) for number in range(400)]
    first, again = decide(service, requests), decide(service, requests[::-1])[::-1]
    assert [a.lam for a in first] == [a.lam for a in again]
    share = np.mean([a.lam == rule.lam[0] for a in first])
    assert share == pytest.approx(rule.share[0], abs=4 * 0.5 / 20)


@pytest.mark.parametrize(
    ("fields", "changes", "excluded"),
    [
        ({}, {}, {}),
        ({"size": (64, 64)}, {}, {"mini-1": "size"}),
        ({"size": (32, 32)}, {}, {"mini-2": "size", "mini-4": "size"}),
        ({"negative_prompt": "blur"}, {}, {"mini-4": "negative_prompt"}),
        ({"negative_prompt": "blur"}, {"negative_prompts": None}, {}),
        ({}, {"unavailable": {"mini-4": "breaker open"}}, {"mini-4": "unavailable"}),
        ({"max_latency": 0.15}, {}, {"mini-2": "latency", "mini-4": "latency"}),
        ({"max_latency": 0.25, "n": 4}, {}, {"mini-2": "latency", "mini-4": "latency"}),
        ({"max_latency": 0.3}, {"queue_seconds": {"mini-1": 1.0}}, {
            "mini-1": "latency", "mini-4": "latency",
        }),
        ({"key": ApiKey("k", "team"), "n": 2}, {"remaining": {"k": 5.0}}, {"mini-4": "ceiling"}),
        ({"key": ApiKey("other", "team"), "n": 2}, {"remaining": {"k": 5.0}}, {}),
    ],
)  # fmt: skip
def test_candidates_that_cannot_answer_are_excluded(state, ridge, fields, changes, excluded):
    for pinned in (None, *(set(COSTS) - set(excluded))):
        service = decisions(state, ridge)
        answer = decide(service, [request(model=pinned, **fields)], conditions(**changes))[0]
        assert answer.candidate not in excluded
        if pinned is None:
            assert answer.excluded == excluded
            assert set(answer.ranked) == set(COSTS) - set(excluded)
            assert all(answer.propensities[name] == 0 for name in excluded)
        else:
            assert answer.ranked == (pinned,) and answer.lam is None and answer.scope is None


@pytest.mark.parametrize(
    ("fields", "changes", "status", "param", "message"),
    [
        ({"size": (8, 8)}, {}, 400, "size", "no candidate makes images of 8x8 pixels. Use"),
        ({"size": (64, 64), "model": "mini-1"}, {}, 400, "size", "mini-1 makes no images of 64x64"),
        ({"model": "mini-4", "negative_prompt": "x"}, {}, 400, "negative_prompt", "mini-4 takes"),
        ({"size": (32, 32)}, {"unavailable": {"mini-1": "down"}}, 503, "model", "mini-1 cannot be"),
        ({"max_latency": 0.01}, {}, 400, "max_latency_ms", "the fastest suitable candidate needs"),
        ({"max_latency": 1.0}, {"queue_seconds": dict.fromkeys(COSTS, 5.0)}, 429, "max_latency_ms",
         "the earliest answer takes 5100 ms"),
        ({"key": ApiKey("k", "t")}, {"remaining": {"k": 0.5}}, 429, None, "the ceiling"),
        ({"model": "mini-3"}, {}, 404, "model", "did you mean 'mini-"),
        ({"prompt": "  "}, {}, 400, "prompt", "the prompt is empty"),
        ({"budget": 0.5}, {}, 400, "budget", "below the cost of the cheapest"),
        ({"lam": -1.0}, {}, 400, "lambda", "0 or more"),
        ({"lam": 1.0, "budget": 2.0}, {}, 400, "budget", "together with lambda"),
    ],
)  # fmt: skip
def test_requests_that_no_candidate_can_answer(
    state, ridge, fields, changes, status, param, message
):
    service = decisions(state, ridge)
    with pytest.raises(ServingError, match=message) as error:
        decide(service, [request(), request(**fields)], conditions(**changes))
    assert (error.value.status, error.value.param) == (status, param)
    if status in (429, 503) and error.value.retryable:
        assert error.value.retry_after > 0


def test_under_pressure_faster_candidates_are_preferred(state, ridge):
    service = decisions(state, ridge)
    requests = [request(CROWDED, lam=0.0)]
    calm, pressed = (decide(service, requests, conditions(pressure=p))[0] for p in (0.0, 100.0))
    assert calm.candidate == "mini-4" and pressed.ranked == ("mini-1", "mini-2", "mini-4")
    assert (calm.pressure, pressed.pressure) == (0.0, 100.0)
    assert pressed.qualities == calm.qualities


def test_candidates_of_an_idle_device_have_no_pressure_while_another_device_is_busy(state, ridge):
    service = decisions(state, ridge)
    requests = [request(CROWDED, lam=0.0)]
    busy = {"mini-1": 1.0, "mini-2": 1.0, "mini-4": 0.0}
    alone = decide(service, requests, conditions(pressure=100.0, pressure_shares=busy))[0]
    assert alone.ranked == ("mini-4", "mini-1", "mini-2")
    same = conditions(pressure=100.0, pressure_shares=dict.fromkeys(busy, 1.0))
    one = decide(service, requests, conditions(pressure=100.0))[0]
    assert decide(service, requests, same)[0].ranked == one.ranked


def test_propensities_are_exact_and_estimate_another_policy_from_the_log(state, ridge):
    service = decisions(state, ridge, explore=0.3, pace=False, budget="60%")
    rng = np.random.default_rng(0)
    requests = [request(prompt, i) for i, prompt in enumerate(prompts_of(1500))]
    log = decide(service, requests)
    assert all(sum(a.propensities.values()) == pytest.approx(1, abs=1e-12) for a in log)
    chosen = np.array([a.propensities[a.candidate] for a in log])
    assert chosen.min() >= 0.1 - 1e-12
    labels = np.array([QUALITY[r.prompt.split()[0]] for r in requests])
    names = list(COSTS)
    observed = np.array(
        [labels[i, names.index(a.candidate)] + rng.normal(0, 0.02) for i, a in enumerate(log)]
    )
    for name in names:  # the policy that always selects this candidate
        weight = np.array([a.candidate == name for a in log]) / chosen
        terms = weight * observed
        error = 4 * terms.std() / np.sqrt(len(log))
        assert terms.mean() == pytest.approx(labels[:, names.index(name)].mean(), abs=error)
    expected = {n: np.mean([a.propensities[n] for a in log]) for n in names}
    found = {n: np.mean([a.candidate == n for a in log]) for n in names}
    assert found == pytest.approx(expected, abs=4 * 0.5 / np.sqrt(len(log)))


def test_each_prompt_is_tokenised_once_and_its_embedding_is_reported(state, knn, monkeypatch):
    assert isinstance(knn.encoder._encoder, LightClipEncoder)
    encoded, encode = [], LightClipEncoder._encode_batch
    monkeypatch.setattr(
        LightClipEncoder, "_encode_batch", lambda self, p: encoded.append(p) or encode(self, p)
    )
    service = decisions(state, knn)
    prompts = ["one red ring", "red " * 100, "one red ring"]
    answers = decide(service, [request(p, i) for i, p in enumerate(prompts)])
    assert encoded == [prompts[:2]]
    assert [a.truncated for a in answers] == [False, True, False]
    assert answers[1].tokens == knn.encoder.context > answers[0].tokens > 3
    assert answers[0].embedding.dtype == np.float16 and answers[0].embedding.shape == (128,)
    again = decide(service, [request(prompts[1])])[0]
    assert encoded == [prompts[:2]]
    np.testing.assert_array_equal(again.embedding, answers[1].embedding)


def test_concurrent_requests_are_predicted_together_and_fail_alone(state, ridge, monkeypatch):
    batches, predict = [], Router.predict
    monkeypatch.setattr(
        Router, "predict", lambda self, p: batches.append(list(p)) or predict(self, p)
    )
    service = decisions(state, ridge)
    prompts = prompts_of(40)

    async def ask(i):
        fields = {"size": (8, 8)} if i == 7 else {}
        return (await service.decide([request(prompts[i], i, **fields)], IDLE))[0]

    async def ask_all():
        return await asyncio.gather(*map(ask, range(40)), return_exceptions=True)

    answers = asyncio.run(ask_all())
    assert isinstance(answers[7], ServingError)
    expected = ridge.router.predict(prompts)
    for i, answer in enumerate(answers):
        if i != 7:
            assert list(answer.qualities.values()) == pytest.approx(expected[i].tolist())
    batches.pop()
    assert sum(map(len, batches)) == 39 and len(batches) < 10


def test_without_a_router_the_fallback_candidate_answers(state, ridge):
    service = decisions(state)
    (answer,) = decide(service, [request()])
    assert (answer.candidate, answer.router_version) == ("mini-1", "fallback")
    assert answer.ranked == ("mini-1", "mini-2", "mini-4") and answer.qualities == {}
    assert sum(answer.propensities.values()) == 1 == answer.propensities["mini-1"]
    (other,) = decide(service, [request(size=(64, 64))])
    assert other.candidate == "mini-2" and other.excluded == {"mini-1": "size"}
    (pinned,) = decide(service, [request(model="mini-4")])
    assert pinned.candidate == "mini-4" and pinned.router_version == "fallback"


def test_a_challenger_in_the_shadow_decides_without_effect(state, ridge, knn, caplog):
    service = decisions(state, ridge, knn)
    requests = [request(p, i, lam=0.05) for i, p in enumerate((PLAIN, CROWDED))]
    answers = decide(service, requests)
    expected = [d.candidate for d in knn.router.route([PLAIN, CROWDED], lam=0.05)]
    assert [a.shadow for a in answers] == expected
    assert [a.router_version for a in answers] == ["1", "1"]
    broken = RouterVersion("broken", dataclasses.replace(knn.router, estimator=None))
    service.swap(Versions(ridge, broken, shadow=True))
    with caplog.at_level(logging.ERROR):
        (answer,) = decide(service, requests[:1])
    assert answer.shadow is None and answer.candidate == answers[0].candidate
    assert "the challenger could not decide" in caplog.text


def test_a_canary_decides_its_share_of_the_requests(state, ridge, knn):
    service = decisions(state, ridge)
    service.swap(Versions(ridge, knn, share=0.25))
    requests = [request(PLAIN, i, lam=0.05) for i in range(400)]
    versions = [a.router_version for a in decide(service, requests)]
    assert versions == [a.router_version for a in decide(service, requests)]
    assert np.mean([v == "2" for v in versions]) == pytest.approx(0.25, abs=4 * 0.43 / 20)


def test_a_swap_is_atomic_while_requests_run(state, ridge, knn):
    service = decisions(state, ridge)

    async def ask(i):
        return await service.decide([request(p, i, lam=0.05) for p in (PLAIN, CROWDED)], IDLE)

    async def swap_under_load():
        running = []
        for i in range(60):
            running.append(asyncio.create_task(ask(i)))
            await asyncio.sleep(0)
            service.swap(Versions((knn, ridge)[i % 2]))
        return await asyncio.gather(*running)

    answers = asyncio.run(swap_under_load())
    assert {a.router_version for pair in answers for a in pair} == {"1", "2"}
    assert all(first.router_version == second.router_version for first, second in answers)


def test_a_closed_service_refuses_and_finishes_what_waits(state, ridge):
    service = decisions(state, ridge)

    async def close_while_waiting():
        waiting = asyncio.create_task(service.decide([request()], IDLE))
        await asyncio.sleep(0)
        await asyncio.to_thread(service.close)
        return await waiting

    assert asyncio.run(close_while_waiting())[0].candidate in COSTS
    with pytest.raises(RuntimeError, match="closed"):
        decide(service, [request()])


def test_decisions_without_routing_start_no_thread():
    service = Decisions(CATALOGUE, budgets=None)
    assert decide(service, [request()])[0].candidate == "mini-1"
    assert service._worker._thread is None
    service.close()
