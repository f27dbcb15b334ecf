"""Published routers and running replicas."""

import pytest
from sqlalchemy import update

from catimage.serving.messages import ServingError
from catimage.serving.state.tables import rollouts
from tests.serving.state.helpers import counted_queries


class TestRollouts:
    def test_a_published_router_replaces_the_previous_one(self, state, clock):
        assert state.rollouts.current() == {}
        old = state.rollouts.publish("champion", "3", "d3", b"three")
        clock.now += 5
        new = state.rollouts.publish("champion", "4", "d4", b"four" * 100_000)
        challenger = state.rollouts.publish("challenger", "5", "d5", b"five", True, 0.25)
        assert state.rollouts.current() == {"champion": new, "challenger": challenger}
        assert (new.version, new.digest, new.published) == ("4", "d4", clock.now)
        assert (challenger.shadow, challenger.share) == (True, 0.25)
        assert state.rollouts.archive(new) == b"four" * 100_000
        with pytest.raises(ServingError, match="champion 3 was replaced meanwhile"):
            state.rollouts.archive(old)

    def test_polling_reads_no_archive(self, state):
        state.rollouts.publish("champion", "3", "d3", b"three")
        with counted_queries(state._database) as queries:
            state.rollouts.current()
        assert [q for q in queries if "catimage" in q and "archive" in q] == []

    def test_a_role_is_cleared(self, state):
        state.rollouts.publish("challenger", "5", "d5", b"five")
        assert state.rollouts.clear("challenger") and not state.rollouts.clear("challenger")
        assert state.rollouts.current() == {}

    def test_a_damaged_archive_is_refused(self, state):
        rollout = state.rollouts.publish("champion", "3", "d3", b"three")
        with state._database.write() as connection:
            connection.execute(update(rollouts).values(archive=b"thr33"))
        with pytest.raises(
            ServingError, match=r"champion 3 is damaged.*catimage promote"
        ) as caught:
            state.rollouts.archive(rollout)
        assert caught.value.status == 503


class TestReplicas:
    def test_replicas_report_the_router_that_they_serve(self, state, clock):
        state.replicas.report("b", "3", "d3")
        clock.now += 10
        state.replicas.report("a", "3", "d3")
        state.replicas.report("a", "4", "d4")
        live = state.replicas.live(15)
        assert [(r.replica_id, r.version, r.digest, r.seen) for r in live] == [
            ("a", "4", "d4", clock.now),
            ("b", "3", "d3", clock.now - 10),
        ]
        clock.now += 10
        assert [r.replica_id for r in state.replicas.live(15)] == ["a"]

    def test_a_replica_that_shuts_down_is_removed(self, state):
        state.replicas.report("a", "3", "d3")
        state.replicas.remove("a")
        state.replicas.remove("a")
        assert state.replicas.live() == []

    def test_replicas_that_have_not_reported_for_a_day_are_deleted(self, state, clock):
        state.replicas.report("a", "3", "d3")
        clock.now += 86_401
        assert [state.replicas.purge(), state.replicas.purge()] == [1, 0]
