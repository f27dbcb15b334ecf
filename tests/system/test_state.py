"""The tests of the state on PostgreSQL, and what only a server can do: stop, and refuse."""

import time

import pytest

from catimage.errors import InputError
from catimage.serving.messages import ApiKey, ServingError
from catimage.serving.state.store import State
from tests.serving.state.conftest import clock, processes, state  # noqa: F401
from tests.serving.state.helpers import in_threads
from tests.serving.state.test_budgets import TestBudgets  # noqa: F401
from tests.serving.state.test_images import TestImages  # noqa: F401
from tests.serving.state.test_jobs import TestJobs  # noqa: F401
from tests.serving.state.test_keys import TestKeys  # noqa: F401
from tests.serving.state.test_migrations import TestMigrations  # noqa: F401
from tests.serving.state.test_rollouts import TestReplicas, TestRollouts  # noqa: F401
from tests.serving.state.test_spending import TestSpending  # noqa: F401
from tests.serving.state.test_store import TestState  # noqa: F401


@pytest.fixture
def url(postgresql):
    """The address of an empty database."""
    return postgresql.new_database()


def test_a_server_that_restarts_is_used_again(postgresql, state, caplog):  # noqa: F811
    key = ApiKey("k", "a", ceiling=100.0)
    reservation = state.spending.reserve(key, 10.0)
    state.budgets.update("service", 1, 1, 1.0, lambda row: 1.0)
    postgresql.stop()
    began = time.monotonic()
    for call in (lambda: state.budgets.read("service"), lambda: state.spending.reserve(key, 1.0)):
        with pytest.raises(ServingError, match="the server does not respond") as caught:
            call()
        assert caught.value.status == 503
        assert postgresql.password not in str(caught.value)
    state.spending.settle(reservation, 7.0)
    assert time.monotonic() - began < 5
    postgresql.start()
    assert state.budgets.read("service").lam == 1.0
    state.spending.settle(state.spending.reserve(key, 2.0), 2.0)
    assert state.spending.spent("k") == 9.0
    assert postgresql.password not in caplog.text


def test_connections_that_the_server_closed_are_replaced(state):  # noqa: F811
    in_threads(state.secret, [()] * 16)
    with state._database.write() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert len(set(in_threads(state.secret, [()] * 16))) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda server: server.url("missing"), "the database, table or role does not exist"),
        (lambda server: server.url().replace(server.password, "wrong"), "refused the user name"),
    ],
)
def test_an_address_that_the_server_refuses_is_one_sentence(postgresql, change, message):
    with pytest.raises(InputError, match=message) as caught:
        State.open(change(postgresql))
    assert postgresql.password not in str(caught.value) and "\n" not in str(caught.value)


def test_a_read_only_server_is_reported(postgresql, url):
    State.open(url).close()
    with pytest.raises(ServingError, match=r"the database is read-only. Give the address of the"):
        State.open(f"{url}?options=-c%20default_transaction_read_only%3Don")
