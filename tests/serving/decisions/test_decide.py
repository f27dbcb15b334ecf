"""Decisions of the service."""

import pytest

from catimage.serving.state.store import State
from tests.serving.decisions.helpers import (
    CROWDED,
    PLAIN,
    decide,
    decisions,
    request,
)
from tests.trained_workspace import COSTS


@pytest.fixture
def state(tmp_path):
    opened = State.open(f"sqlite:///{tmp_path}/state.db")
    yield opened
    opened.close()


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
