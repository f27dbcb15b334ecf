"""Jobs: one replica runs each, cancellation, restart of the service, and stale jobs."""

from tests.serving.state.workers import claim_all

REQUEST = {"prompt": "a red \u2665", "n": 2, "seed": 7}


class TestJobs:
    def test_a_job_is_run_and_keeps_its_result(self, state, clock):
        job = state.jobs.add(REQUEST, "key")
        assert (job.status, job.request, job.key_id) == ("queued", REQUEST, "key")
        assert state.jobs.waiting() == state.jobs.waiting("key") == 1
        assert state.jobs.waiting("other") == 0
        clock.now += 3
        running = state.jobs.claim("replica")
        assert (running.job_id, running.status, running.attempts) == (job.job_id, "running", 1)
        assert running.request == REQUEST and running.started == clock.now
        assert state.jobs.claim("replica") is None
        assert state.jobs.heartbeat(job.job_id, "replica")
        assert state.jobs.finish(job.job_id, "replica", {"cost": 1.5})
        done = state.jobs.get(job.job_id, "key")
        assert (done.status, done.result, done.error) == ("succeeded", {"cost": 1.5}, None)
        assert done.finished == clock.now
        assert not state.jobs.finish(job.job_id, "replica", {"cost": 2})

    def test_a_job_keeps_its_error(self, state):
        job = state.jobs.add(REQUEST)
        state.jobs.claim("replica")
        assert state.jobs.finish(job.job_id, "replica", error={"code": "moderation_blocked"})
        failed = state.jobs.get(job.job_id)
        assert (failed.status, failed.error) == ("failed", {"code": "moderation_blocked"})

    def test_a_client_sees_only_its_own_jobs(self, state):
        job = state.jobs.add(REQUEST, "key")
        for other in ("other", None):
            assert state.jobs.get(job.job_id, other) is None
            assert state.jobs.cancel(job.job_id, other) is None
        assert state.jobs.get(job.job_id, "key").status == "queued"

    def test_texts_that_are_no_identifiers_are_unknown(self, state):
        for text in ("", "job-", "job-\0", f"job-{chr(0) * 24}", "job-" + "x" * 25, "\u2665"):
            assert state.jobs.get(text) is None and state.jobs.cancel(text) is None

    def test_jobs_start_in_the_order_of_their_creation(self, state, clock):
        expected = []
        for _ in range(5):
            clock.now += 1
            expected.append(state.jobs.add(REQUEST).job_id)
        assert [state.jobs.claim("r").job_id for _ in range(5)] == expected

    def test_a_waiting_job_that_is_cancelled_never_starts(self, state):
        job = state.jobs.add(REQUEST)
        assert state.jobs.cancel(job.job_id).status == "cancelled"
        assert state.jobs.claim("r") is None
        assert state.jobs.cancel("job-unknown") is None

    def test_the_replica_of_a_cancelled_job_stops(self, state):
        job = state.jobs.add(REQUEST)
        state.jobs.claim("r")
        state.jobs.cancel(job.job_id)
        assert not state.jobs.heartbeat(job.job_id, "r")
        assert not state.jobs.finish(job.job_id, "r", {"cost": 1})
        assert state.jobs.get(job.job_id).result is None

    def test_cancelling_a_finished_job_changes_nothing(self, state):
        job = state.jobs.add(REQUEST)
        state.jobs.claim("r")
        state.jobs.finish(job.job_id, "r", {"cost": 1})
        assert state.jobs.cancel(job.job_id).status == "succeeded"

    def test_a_job_of_a_dead_replica_starts_again_elsewhere(self, state, clock):
        job = state.jobs.add(REQUEST)
        state.jobs.claim("dead")
        clock.now += 50
        assert state.jobs.heartbeat(job.job_id, "dead")
        clock.now += 50
        assert state.jobs.requeue_stale(60) == 0
        clock.now += 11
        assert state.jobs.requeue_stale(60) == 1
        assert state.jobs.claim("alive").attempts == 2
        assert not state.jobs.heartbeat(job.job_id, "dead")
        assert not state.jobs.finish(job.job_id, "dead", {"cost": 1})
        assert state.jobs.finish(job.job_id, "alive", {"cost": 2})

    def test_a_job_that_stops_the_service_again_and_again_fails(self, state, clock):
        job = state.jobs.add(REQUEST)
        for _ in range(3):
            assert state.jobs.claim("r").job_id == job.job_id
            clock.now += 100
            assert state.jobs.requeue_stale(60, attempts=3) == 1
        assert state.jobs.claim("r") is None
        failed = state.jobs.get(job.job_id)
        assert failed.status == "failed" and failed.error["code"] == "job_interrupted"
        assert failed.finished == clock.now

    def test_a_replica_that_shuts_down_returns_its_jobs(self, state):
        mine, other = state.jobs.add(REQUEST), state.jobs.add(REQUEST)
        claimed = [state.jobs.claim("mine").job_id, state.jobs.claim("other").job_id]
        assert set(claimed) == {mine.job_id, other.job_id}
        assert state.jobs.release("mine") == 1
        assert state.jobs.claim("next").job_id == claimed[0]
        assert state.jobs.get(claimed[1]).status == "running"

    def test_a_shutdown_does_not_count_as_an_attempt(self, state, clock):
        job = state.jobs.add(REQUEST)
        for _ in range(4):
            assert state.jobs.claim("r").attempts == 1
            state.jobs.release("r")
        state.jobs.claim("r")
        clock.now += 100
        assert state.jobs.requeue_stale(60, attempts=3) == 1
        assert state.jobs.get(job.job_id).status == "queued"

    def test_a_job_that_is_known_to_run_is_not_stale(self, state, clock):
        mine, lost = state.jobs.add(REQUEST), state.jobs.add(REQUEST)
        while state.jobs.claim("r"):
            pass
        clock.now += 100
        assert state.jobs.requeue_stale(60, spare=[mine.job_id]) == 1
        assert state.jobs.get(mine.job_id).status == "running"
        assert state.jobs.get(lost.job_id).status == "queued"

    def test_the_age_is_that_of_the_oldest_job_that_waits(self, state, clock):
        assert state.jobs.oldest_age() is None
        state.jobs.add(REQUEST)
        clock.now += 5
        state.jobs.add(REQUEST)
        assert state.jobs.oldest_age() == 5.0
        state.jobs.claim("r")
        assert state.jobs.oldest_age() == 0.0

    def test_old_jobs_are_deleted(self, state, clock):
        old, waiting = state.jobs.add(REQUEST), state.jobs.add(REQUEST)
        state.jobs.cancel(old.job_id)
        clock.now += 86_000
        assert state.jobs.purge() == 0
        clock.now += 1000
        assert state.jobs.purge() == 1
        assert state.jobs.get(old.job_id) is None
        assert state.jobs.get(waiting.job_id) is not None

    def test_each_job_runs_once_in_two_processes(self, state, url, processes):
        expected = sorted(state.jobs.add(REQUEST).job_id for _ in range(40))
        first, second = processes.call(claim_all, [(url, "first"), (url, "second")])
        assert sorted(first + second) == expected
        assert {state.jobs.get(job_id).status for job_id in expected} == {"succeeded"}
