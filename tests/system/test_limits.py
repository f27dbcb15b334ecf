"""Rate limits that two replicas share in a real Redis server, which is stopped and started."""

import pytest

from catimage.serving.limits import PAUSE_SECONDS, RateLimits
from catimage.serving.messages import ApiKey, ServingError
from tests.serving.state.helpers import Clock
from tests.serving.test_limits import accepted


def test_two_replicas_share_the_limit_of_a_key(redis):
    first, second = (RateLimits("100/hour", redis.url) for _ in range(2))
    key, other = (
        ApiKey("shared", "a", rate_limit="20/hour"),
        ApiKey("other", "b", rate_limit="3/hour"),
    )
    assert accepted(first, key, count=15) == 15
    assert accepted(second, key, count=15) == 5
    assert accepted(first, key, count=5) == 0
    assert accepted(second, other, count=5) == 3
    assert first.failures == second.failures == 0


def test_the_error_has_the_time_until_the_next_request(redis):
    limits = RateLimits("2/hour", redis.url)
    limits.check(None, "192.0.2.9")
    limits.check(None, "192.0.2.9")
    with pytest.raises(ServingError, match="more than 2 per 1 hour") as caught:
        limits.check(None, "192.0.2.9")
    assert 3500 < caught.value.retry_after <= 3600


def test_requests_are_counted_in_the_replica_while_redis_is_down(redis, caplog):
    timer, failures = Clock(), []
    limits = RateLimits("5/hour", redis.url, lambda: failures.append(1), timer)
    assert accepted(limits, None, "192.0.2.10", 2) == 2
    redis.stop()
    assert accepted(limits, None, "192.0.2.10", 8) == 5
    assert failures and "this replica counts its own requests" in caplog.text
    redis.start()
    timer.now += PAUSE_SECONDS
    before = len(failures)
    assert accepted(limits, None, "192.0.2.10", 8) == 5  # the new server is empty
    assert len(failures) == before
