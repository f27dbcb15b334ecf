"""The state of budget controllers: one transaction per update, and no update is lost."""

import dataclasses

import pytest

from catimage.serving.messages import ServingError
from catimage.serving.state.budgets import BudgetRow
from catimage.serving.state.store import State
from tests.serving.state.helpers import outage
from tests.serving.state.workers import update_many


class TestBudgets:
    def test_a_budget_begins_without_lambda(self, state):
        seen = []
        assert state.budgets.read("service") is None
        row = state.budgets.update("service", 2, 5, 1.5, lambda row: seen.append(row) or 0.25)
        assert seen == [BudgetRow("service", None, 2.0, 5.0, 1.5, 0.0)]
        assert (row.lam, row.requests, row.images, row.cost) == (0.25, 2.0, 5.0, 1.5)
        assert state.budgets.read("service") == row

    def test_the_step_gets_the_sums_with_the_new_requests(self, state, clock):
        state.budgets.update("key:a", 1, 1, 1.0, lambda row: 1.0)
        clock.now += 7
        row = state.budgets.update("key:a", 1, 2, 0.5, lambda row: row.lam + row.cost)
        assert (row.lam, row.requests, row.images, row.cost) == (2.5, 2.0, 3.0, 1.5)
        assert row.updated == clock.now
        assert state.budgets.read("quality:low") is None

    def test_a_step_may_discount_old_requests(self, state):
        def halve(row):
            return dataclasses.replace(row, lam=0.1, requests=row.requests / 2, cost=row.cost / 2)

        state.budgets.update("service", 4, 4, 8.0, halve)
        row = state.budgets.update("service", 2, 2, 4.0, halve)
        assert (row.requests, row.images, row.cost) == (2.0, 6.0, 4.0)

    def test_a_step_that_fails_changes_nothing(self, state):
        row = state.budgets.update("service", 1, 1, 1.0, lambda row: 1.0)
        with pytest.raises(ZeroDivisionError):
            state.budgets.update("service", 1, 1, 1.0, lambda row: 1 / 0)
        assert state.budgets.read("service") == row

    def test_the_state_survives_a_restart(self, state, url):
        row = state.budgets.update("service", 1, 1, 1.0, lambda row: 1.0)
        again = State.open(url)
        assert again.budgets.read("service") == row
        again.close()

    def test_no_update_of_two_processes_is_lost(self, state, url, processes):
        processes.call(update_many, [(url, 40), (url, 40)])
        row = state.budgets.read("service")
        assert (row.lam, row.requests, row.images, row.cost) == (80.0, 80.0, 160.0, 40.0)

    def test_an_outage_is_an_error_with_status_503(self, state):
        with (
            outage(state._database, "catimage_budgets"),
            pytest.raises(ServingError) as caught,
        ):
            state.budgets.update("service", 1, 1, 1.0, lambda row: 1.0)
        error = caught.value
        assert (error.status, error.code, error.retryable) == (503, "state_unavailable", True)
