"""API keys: hashes at rest, verification without queries, revocation in other replicas."""

import hashlib
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from catimage.errors import InputError
from catimage.serving.messages import ServingError
from catimage.serving.state.database import Database
from catimage.serving.state.keys import GRACE_SECONDS, Keys
from catimage.serving.state.tables import keys as table
from tests.serving.state.helpers import Clock, counted_queries, in_threads, outage


class TestKeys:
    @pytest.fixture
    def database(self, state, url):
        database = Database(url)
        yield database
        database.close()

    def test_a_secret_identifies_its_key(self, state):
        key, secret = state.keys.create("web shop", budget=2.5, ceiling=10, rate_limit="5/second")
        other, other_secret = state.keys.create("web shop")
        assert secret.startswith(f"cat-{key.key_id}-") and len(secret) == len("cat-") + 12 + 44
        assert state.keys.verify(secret) == key
        assert (key.name, key.budget, key.ceiling, key.rate_limit) == (
            "web shop",
            2.5,
            10,
            "5/second",
        )
        assert state.keys.verify(other_secret) == other != key

    def test_other_texts_identify_no_key(self, state):
        key, secret = state.keys.create("a")
        last = "A" if secret[-1] != "A" else "B"
        unknown = f"cat-{'0' * 12}-{secret[-43:]}"
        for text in ("", secret[:-1], secret + "A", secret[:-1] + last, unknown, key.key_id,
                     secret.upper(), f" {secret}", f"{secret}\n"):  # fmt: skip
            assert state.keys.verify(text) is None, text

    @settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(text=st.text() | st.from_regex(r"cat-[0-9a-f]{12}-[A-Za-z0-9_-]{43}"))
    def test_any_text_is_answered(self, state, text):
        assert state.keys.verify(text) is None

    def test_only_the_hash_of_a_secret_is_stored(self, state, database):
        _, secret = state.keys.create("a")
        with database.read() as connection:
            row = connection.execute(select(table)).mappings().one()
        assert row["digest"] == hashlib.sha256(secret.encode()).hexdigest()
        assert secret[-43:] not in str(dict(row))

    def test_neither_valid_nor_invalid_secrets_need_a_query(self, state, database):
        _, secret = state.keys.create("a")
        keys = Keys(database, timer=Clock())
        assert not keys.fresh
        assert keys.verify(secret) and keys.fresh
        with counted_queries(database) as queries:
            for i in range(100):
                assert keys.verify(secret) and keys.exist()
                assert keys.verify(f"cat-{i:012x}-{secret[-43:]}") is None
                assert keys.verify("x" * i) is None
        assert queries == []

    def test_replicas_read_changes_after_the_interval(self, state, database):
        timer = Clock()
        keys = Keys(database, refresh_seconds=2.0, timer=timer)
        assert not keys.exist()
        key, secret = state.keys.create("a")
        assert keys.verify(secret) is None and not keys.exist()
        timer.now += 2.0
        assert keys.verify(secret) == key and keys.exist()
        state.keys.revoke(key.key_id)
        assert state.keys.verify(secret) is None  # at once in the process that revoked it
        assert keys.verify(secret) == key
        timer.now += 2.0
        assert keys.verify(secret) is None

    def test_an_interval_without_changes_needs_one_query(self, state, database):
        state.keys.create("a")
        timer = Clock()
        keys = Keys(database, timer=timer)
        assert keys.exist()
        timer.now += 1.0
        with counted_queries(database) as queries:
            assert keys.exist() and keys.fresh
        assert len([q for q in queries if "catimage" in q]) == 1

    def test_keys_exist_after_the_last_one_is_revoked(self, state):
        assert not state.keys.exist()
        key, _ = state.keys.create("a")
        state.keys.revoke(key.key_id)
        assert state.keys.exist()

    def test_the_list_contains_revoked_keys(self, state, clock):
        first, _ = state.keys.create("first")
        clock.now += 60
        second, _ = state.keys.create("second", rate_limit="1/minute")
        state.keys.revoke(first.key_id)
        records = state.keys.list()
        assert [r.key for r in records] == [first, second]
        assert [r.revoked for r in records] == [clock.now, None]
        assert records[0].created == clock.now - 60

    def test_a_key_is_revoked_once(self, state):
        key, _ = state.keys.create("a")
        assert state.keys.revoke(key.key_id) == key
        for key_id in (key.key_id, "unknown", "x" * 500, ""):
            with pytest.raises(InputError, match="no valid key has this id"):
                state.keys.revoke(key_id)

    def test_known_keys_remain_valid_for_a_minute_without_the_database(
        self, state, database, caplog
    ):
        key, secret = state.keys.create("a")
        timer = Clock()
        keys = Keys(database, timer=timer)
        assert keys.verify(secret) == key
        with outage(database, "catimage_meta"):
            timer.now += GRACE_SECONDS
            with counted_queries(database) as queries:
                assert keys.verify(secret) == key and keys.fresh
                assert keys.verify(secret) == key
            assert len([q for q in queries if "catimage" in q]) == 1  # no query per request
            assert "the last known API keys remain valid" in caplog.text
            assert secret not in caplog.text
            timer.now += 1.1
            with pytest.raises(ServingError, match="table") as caught:
                keys.verify(secret)
        assert caught.value.status == 503 and caught.value.code == "state_unavailable"
        timer.now += 1.0
        assert keys.verify(secret) == key

    def test_only_one_of_the_threads_that_wait_tries_a_database_that_does_not_respond(
        self, database, monkeypatch
    ):
        timer, tried = Clock(), []

        def slow_failure(*_):
            tried.append(timer.now)
            time.sleep(0.05)
            timer.now += 10.0  # the longest wait for a connection
            raise ServingError("database: not reachable. Start it.", 503)

        keys = Keys(database, timer=timer)
        monkeypatch.setattr(keys, "_read", slow_failure)

        def refused():
            with pytest.raises(ServingError, match="not reachable"):
                keys.verify("x")

        in_threads(refused, [()] * 4)
        assert len(tried) == 1

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"name": ""}, "name: the name is empty"),
            ({"name": "  "}, "name: the name is empty"),
            ({"name": " a"}, "begins or ends with white space"),
            ({"name": "a\nb"}, "contains a control character"),
            ({"name": "\ud800"}, "contains a control character"),
            ({"name": "x" * 101}, "more than 100 characters"),
            ({"budget": -1.0}, "budget: -1 is not"),
            ({"budget": 0.0}, "budget: 0 is not a finite number above 0"),
            ({"ceiling": float("nan")}, "ceiling: nan is not"),
            ({"ceiling": float("inf")}, "ceiling: inf is not"),
            ({"rate_limit": "often"}, "rate_limit: 'often' is not a rate limit"),
            ({"rate_limit": ""}, "rate_limit: '' is not a rate limit"),
        ],
    )
    def test_invalid_values_are_refused(self, state, arguments, message):
        with pytest.raises(InputError, match=message):
            state.keys.create(**{"name": "a", **arguments})
        assert state.keys.list() == []
