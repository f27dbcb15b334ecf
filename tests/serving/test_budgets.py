"""Live budgets: their scopes, their shared state, and their targets."""

import asyncio
import dataclasses

import numpy as np
import pytest

from catimage.errors import InputError
from catimage.params.serving import ServingParams
from catimage.router import Router
from catimage.routing.policy import choose
from catimage.serving.budgets import LiveBudgets
from catimage.serving.decisions.versions import RouterVersion, Versions
from catimage.serving.messages import ApiKey, RouteRequest, ServingError
from catimage.serving.state.store import State
from catimage.workspace import Workspace
from tests.trained_workspace import prompts_of


@pytest.fixture(scope="module")
def version(calibrated_folder):
    return RouterVersion("1", Router.load(Workspace(calibrated_folder).router))


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/state.db"


@pytest.fixture
def state(url):
    shared = State.open(url)
    yield shared
    shared.close()


def budgets(state, version, **settings):
    live = LiveBudgets(state.budgets, ServingParams.model_validate(settings))
    live.use(Versions(version))
    return live


def request(**fields):
    return RouteRequest("a red ring", request_id="r", draw=0, **fields)


KEY = ApiKey("k1", "team", budget=2.0)


@pytest.mark.parametrize(
    ("fields", "scope"),
    [
        ({}, "service"),
        ({"quality": "auto"}, "service"),
        ({"quality": "unknown"}, "service"),
        ({"quality": "high"}, "quality:high"),
        ({"key": ApiKey("k2", "free")}, "service"),
        ({"key": KEY}, "key:k1"),
        ({"key": KEY, "quality": "high"}, "key:k1"),  # the preset would spend more
        ({"key": KEY, "quality": "standard"}, "quality:standard"),
        ({"budget": 3.0}, None),
        ({"lam": 0.1}, None),
        ({"model": "mini-1"}, None),
        ({"key": KEY, "budget": 3.0}, "key:k1"),
        ({"key": KEY, "budget": 1.5}, None),
        ({"key": KEY, "lam": 0.0}, "key:k1"),
        ({"key": KEY, "lam": 1e6}, None),
    ],
)
def test_the_scope_of_a_request(state, version, fields, scope):
    assert budgets(state, version).scope_of(request(**fields)) == scope


def test_each_budget_starts_at_its_calibrated_lambda(state, version):
    live = budgets(state, version, budget="50%", qualities={"low": "30%", "hd": "3.5"})
    for scope, cost in (("service", 2.0), ("quality:low", 1.2), ("quality:hd", 3.5)):
        rule = version.router.rule_for(budget=cost)
        assert live.lam(scope) == pytest.approx(float(rule.share @ rule.lam))
        assert live.status()[scope]["budget"] == pytest.approx(cost)
    assert live.status()["service"]["mean_cost"] is None
    router = version.router
    assert budgets(state, version).lam("service") == pytest.approx(
        float(router.rule.share @ router.rule.lam)
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budget": "0.5"}, "serving.budget: 0.5 is below the cost of the cheapest candidate, 1."),
        ({"qualities": {"low": "cheap"}}, "serving.qualities.low: 'cheap' is not a budget."),
        ({"qualities": {"low": "0.1"}}, "serving.qualities.low: 0.1 is below the cost"),
        ({"budget": "nan"}, "serving.budget: must be a finite number"),
    ],
)
def test_an_invalid_budget_is_one_sentence(state, version, settings, message):
    with pytest.raises(InputError) as error:
        budgets(state, version, **settings)
    assert str(error.value).startswith(message)


def test_a_percentage_below_the_cheapest_candidate_is_that_candidate_and_a_warning(state, version):
    live = LiveBudgets(state.budgets, ServingParams.model_validate({"qualities": {"low": "10%"}}))
    (warning,) = live.use(Versions(version))
    assert warning.startswith("serving.qualities.low: 10% is 0.4 tflops, less than the cheapest")
    assert live.status()["quality:low"]["budget"] == 1.0


def test_without_pacing_the_calibrated_rule_is_used_whatever_the_traffic_costs(state, version):
    live = budgets(state, version, pace=False)
    for _ in range(200):
        live.record("service", 4.0, 1)
    rule = live.rule("service", version)
    assert rule.lam.tolist() == version.router.rule.lam.tolist()
    assert live.status()["service"]["lambda"] == live.lam("service") == float(rule.share @ rule.lam)
    assert live.status()["service"]["mean_cost"] == 4.0


def test_floors_of_the_router_keep_their_multipliers(state, version):
    rule = dataclasses.replace(
        version.router.rule, multipliers=np.full((len(version.router.rule.lam), 1), 0.7)
    )
    router = dataclasses.replace(version.router, floors={"sharpness": 0.1}, rule=rule)
    live = budgets(state, RouterVersion("floors", router))
    changed = live.rule("quality:high", RouterVersion("floors", router))
    assert changed.multipliers.tolist() == [[0.7]] and len(changed.lam) == 1
    with pytest.raises(InputError, match=r"serving\.qualities\.low: .* floors"):
        budgets(state, RouterVersion("floors", router), pace=False)


def traffic(version, n=2000, seed=0):
    """Plain and then crowded prompts, half of them repeats: predictions, (n, n_candidates)."""
    rng = np.random.default_rng(seed)
    texts = prompts_of(n)
    parts = []
    for kind in ("plain", "crowded"):
        new = [t for t in texts if t.startswith(kind)][: n // 4]
        both = [*new, *rng.choice(new, n // 4)]
        parts += [both[i] for i in rng.permutation(len(both))]
    return version.router.predict(parts)


def serve(lives, version, quality, sync_every=20):
    """Route images round robin over replicas, and return the mean cost of all of them."""
    costs = []
    for i, row in enumerate(quality):
        live = lives[i % len(lives)]
        lam = float(live.rule("service", version).lam[0])
        cost = float(version.router.costs[choose(row[None], version.router.costs, lam)[0]])
        live.record("service", cost, 1)
        costs.append(cost)
        if (i + 1) % sync_every == 0:
            for replica in lives:
                replica.sync()
    return float(np.mean(costs))


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_the_mean_cost_is_kept_when_prompts_turn_from_plain_to_crowded(url, version, replicas):
    states = [State.open(url) for _ in range(replicas)]
    lives = [budgets(s, version, budget="2.2") for s in states]
    assert serve(lives, version, traffic(version)) == pytest.approx(2.2, rel=0.02)
    for live in lives:
        live.sync(everything=True)
    rows = [live.status()["service"] for live in lives]
    assert len({(row["lambda"], row["mean_cost"]) for row in rows}) == 1
    for shared in states:
        shared.close()


def test_the_state_survives_a_restart(url, version):
    first = State.open(url)
    live = budgets(first, version)
    for _ in range(100):
        live.record("service", 4.0, 1)

    async def stop():
        await live.start()
        await live.close()

    asyncio.run(stop())
    first.close()
    second = State.open(url)
    restarted = budgets(second, version)
    assert restarted.lam("service") == pytest.approx(live.lam("service"))
    assert restarted.lam("service") > version.router.rule.lam.max()
    assert restarted.status()["service"]["mean_cost"] == pytest.approx(4.0)
    second.close()


def test_a_correction_after_the_decision_leaves_the_real_cost(state, version):
    corrected, direct = budgets(state, version), budgets(state, version, qualities={"a": "60%"})
    corrected.record("service", 4.0, 1)
    corrected.record("service", -3.0, 0)
    direct.record("service", 1.0, 1)
    found, expected = (live.status()["service"] for live in (corrected, direct))
    assert found["mean_cost"] == expected["mean_cost"] == 1.0
    assert found["lambda"] == pytest.approx(expected["lambda"], rel=0.1)
    corrected.record(None, 9.0, 1)
    assert corrected.status()["service"] == found


class BrokenStore:
    """A database that cannot be used."""

    def __init__(self, store):
        self.store, self.broken = store, False

    def read(self, scope):
        self._check()
        return self.store.read(scope)

    def update(self, *arguments):
        self._check()
        return self.store.update(*arguments)

    def _check(self):
        if self.broken:
            raise ServingError("database: not reachable. Try again later.", 503)


def test_nothing_is_lost_while_the_database_cannot_be_used(state, version, caplog):
    store = BrokenStore(state.budgets)
    live = LiveBudgets(store, ServingParams())
    live.use(Versions(version))
    store.broken = True
    for _ in range(10):
        live.record("service", 4.0, 1)
        live.sync()
    assert "not shared with other replicas" in caplog.text
    lam = live.lam("service")
    store.broken = False
    live.sync()
    assert live.lam("service") == pytest.approx(lam)
    row = state.budgets.read("service 1")
    assert (row.requests, row.images) == (10, 10) and row.cost == pytest.approx(40)


def test_each_version_has_its_own_lambda_and_the_budget_of_a_key_can_change(state, version):
    other = RouterVersion("2", version.router)
    live = LiveBudgets(state.budgets, ServingParams())
    live.use(Versions(version, other, share=0.5))
    live.record("service", 4.0, 1, "2")
    assert live.lam("service", other) > live.lam("service", version)
    scope = live.scope_of(request(key=KEY))
    before = live.lam(scope)
    live.record(scope, 2.0, 1)
    richer = dataclasses.replace(KEY, budget=3.0)
    assert live.lam(live.scope_of(request(key=richer))) < before
    assert live.status()["key:k1"]["budget"] == 3.0


def test_without_a_router_no_budget_applies(state):
    live = LiveBudgets(state.budgets, ServingParams())
    assert live.use(Versions()) == [] and live.scope_of(request()) is None
    live.record("service", 1.0, 1)
    assert live.status() == {}
    with pytest.raises(ServingError, match="no router is loaded"):
        live.lam("service")
