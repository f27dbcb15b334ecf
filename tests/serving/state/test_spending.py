"""Ceilings: reservations are atomic across threads and processes, expire, and are settled once."""

import math
import secrets

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catimage.serving.messages import ApiKey, ServingError
from catimage.serving.state.spending import LIFETIME
from tests.serving.state.helpers import counted_queries, in_threads, outage
from tests.serving.state.workers import reserve, reserve_many

KEY = ApiKey("k", "client", ceiling=10.0)
COSTS = st.floats(0.0, 6.0, allow_nan=False)
examples = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


class TestSpending:
    def test_a_request_beyond_the_ceiling_is_refused(self, state, clock):
        reservation = state.spending.reserve(KEY, 6.0)
        assert reservation.month == "2026-11"
        with pytest.raises(ServingError, match="would exceed the ceiling of 10 per") as caught:
            state.spending.reserve(KEY, 4.01)
        error = caught.value
        assert (error.status, error.code, error.retryable) == (429, "insufficient_quota", False)
        assert error.retry_after is not None and 3 * 86_400 < error.retry_after < 4 * 86_400
        state.spending.reserve(KEY, 4.0)  # the refused request reserved nothing

    def test_the_real_cost_replaces_the_reservation(self, state):
        first = state.spending.reserve(KEY, 9.0)
        state.spending.settle(first, 3.0)
        assert state.spending.spent("k") == 3.0
        second = state.spending.reserve(KEY, 7.0)
        state.spending.settle(second, 0.0)
        assert state.spending.spent("k") == 3.0
        state.spending.reserve(KEY, 7.0)
        assert state.spending.spent_by_key() == {"k": 3.0}

    def test_a_reservation_is_replaced_by_a_larger_one_or_remains(self, state):
        first = state.spending.reserve(KEY, 6.0)
        second = state.spending.reserve(KEY, 9.0, replaced=first)
        with pytest.raises(ServingError):
            state.spending.reserve(KEY, 10.5, replaced=second)
        with pytest.raises(ServingError):
            state.spending.reserve(KEY, 1.5)
        state.spending.settle(first, 6.0)  # it no longer exists
        state.spending.settle(second, 8.0)
        assert state.spending.spent("k") == 8.0

    def test_a_reservation_is_settled_once(self, state):
        reservation = state.spending.reserve(KEY, 2.0)
        for _ in range(3):
            state.spending.settle(reservation, 1.5)
        assert state.spending.spent("k") == 1.5

    def test_a_reservation_of_a_dead_process_expires(self, state, clock):
        dead = state.spending.reserve(KEY, 10.0)
        clock.now += LIFETIME - 1
        with pytest.raises(ServingError):
            state.spending.reserve(KEY, 1.0)
        clock.now += 1
        state.spending.reserve(KEY, 8.0)
        state.spending.settle(dead, 10.0)  # it was alive after all: the cost counts
        assert state.spending.spent("k") == 10.0

    def test_every_calendar_month_has_the_whole_ceiling(self, state, clock):
        last = state.spending.reserve(KEY, 10.0)
        clock.now += 5 * 86_400
        state.spending.settle(last, 10.0)
        assert state.spending.spent("k") == 0.0
        assert state.spending.reserve(KEY, 10.0).month == "2026-12"

    def test_keys_have_separate_ceilings(self, state):
        state.spending.reserve(KEY, 10.0)
        assert state.spending.reserve(ApiKey("other", "b", ceiling=1.0), 1.0).cost == 1.0

    def test_a_key_without_a_ceiling_needs_no_query_before_it_spends(self, state):
        free = ApiKey("free", "a")
        with counted_queries(state._database) as queries:
            reservation = state.spending.reserve(free, 1e9)
        assert queries == []
        state.spending.settle(reservation, 2.0)
        state.spending.settle(state.spending.reserve(free, 1.0), 1.0)
        assert state.spending.spent("free") == 3.0

    def test_a_ceiling_of_zero_allows_what_is_free(self, state):
        zero = ApiKey("zero", "a", ceiling=0.0)
        state.spending.reserve(zero, 0.0)
        with pytest.raises(ServingError):
            state.spending.reserve(zero, 1e-9)

    def test_costs_are_settled_later_if_the_database_does_not_respond(self, state, caplog):
        first, second = state.spending.reserve(KEY, 2.0), state.spending.reserve(KEY, 3.0)
        with outage(state._database, "catimage_spending"):
            state.spending.settle(first, 2.0)
        assert "1 costs are not settled yet" in caplog.text
        assert state.spending.spent("k") == 0.0
        state.spending.settle(second, 3.0)
        assert state.spending.spent("k") == 5.0

    @pytest.mark.parametrize("cost", [-1.0, math.nan, math.inf])
    def test_an_invalid_cost_is_an_error(self, state, cost):
        with pytest.raises(ValueError, match="finite number"):
            state.spending.reserve(KEY, cost)

    def test_old_reservations_are_deleted(self, state, clock):
        state.spending.reserve(KEY, 1.0)
        clock.now += LIFETIME + 86_401
        state.spending.reserve(KEY, 1.0)
        assert [state.spending.purge(), state.spending.purge()] == [1, 0]

    @examples
    @given(steps=st.lists(st.tuples(COSTS, COSTS, st.booleans()), max_size=12))
    def test_sums_are_those_of_a_model(self, state, steps):
        key = ApiKey(secrets.token_hex(8), "a", ceiling=10.0)
        open_cost = settled = 0.0
        for cost, real, settle in steps:
            allowed = settled + open_cost + cost <= 10.0 * (1 + 1e-12)
            assert (reserve(state, key, cost) == cost) is allowed or cost == 0.0
            if allowed:
                open_cost += cost
            if settle:
                state.spending.settle(state.spending.reserve(ApiKey(key.key_id, "a"), 0.0), real)
                settled += real
        assert math.isclose(state.spending.spent(key.key_id), settled, abs_tol=1e-9)

    @examples
    @given(costs=st.lists(st.floats(0.01, 4.0), min_size=8, max_size=24), ceiling=COSTS)
    def test_threads_never_exceed_the_ceiling(self, state, costs, ceiling):
        key = ApiKey(secrets.token_hex(8), "a", ceiling=ceiling)
        accepted = in_threads(reserve, [(state, key, cost) for cost in costs])
        total = sum(accepted)
        assert total <= ceiling * (1 + 1e-9)
        refused = [cost for cost, kept in zip(costs, accepted, strict=True) if not kept]
        # A request is only refused if it did not fit at that time, so it does not fit now.
        assert all(total + cost > ceiling for cost in refused)

    def test_two_processes_never_exceed_the_ceiling(self, state, url, processes):
        key = ApiKey("shared", "a", ceiling=100.0)
        state.spending.settle(state.spending.reserve(key, 20.0), 20.0)
        total = 20.0 + sum(processes.call(reserve_many, [(url, key, 1), (url, key, 2)]))
        assert 95.0 < total <= 100.0
        with pytest.raises(ServingError):
            state.spending.reserve(key, 100.0 - total + 0.001)
