"""Rate limits in memory, their keys, invalid settings, and a Redis server that is down."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catimage.errors import InputError
from catimage.serving.limits import RateLimits, network_of
from catimage.serving.messages import ApiKey, ServingError
from catimage.serving.rate_limits import parse_rate_limit
from tests.serving.state.helpers import Clock, in_threads


def accepted(limits, key, client="", count=1):
    """The number of requests that are accepted."""

    def request(_):
        try:
            limits.check(key, client)
        except ServingError as error:
            assert (error.status, error.code) == (429, "rate_limit_exceeded")
            assert error.retry_after is not None and error.retryable
            return False
        return True

    return sum(in_threads(request, [(i,) for i in range(count)]))


def test_a_key_has_its_own_rate_or_the_default():
    limits = RateLimits("2/hour")
    assert accepted(limits, ApiKey("a", "a"), count=5) == 2
    assert accepted(limits, ApiKey("b", "b", rate_limit="3/hour"), count=5) == 3
    assert accepted(limits, ApiKey("c", "c", rate_limit="3/hour"), count=5) == 3
    assert not limits.blocks


def test_the_strictest_of_several_limits_holds():
    key = ApiKey("a", "a", rate_limit="50/minute; 4/hour")
    assert accepted(RateLimits(), key, count=10) == 4


def test_clients_without_keys_are_counted_by_address():
    limits = RateLimits("2/hour")
    assert accepted(limits, None, "192.0.2.1", 3) == 2
    assert accepted(limits, None, "192.0.2.2", 3) == 2
    assert accepted(limits, None, "2001:db8::1", 2) == 2
    assert accepted(limits, None, "2001:db8::2", 2) == 0  # the same network
    assert accepted(limits, ApiKey("192.0.2.1", "a"), "192.0.2.1", 3) == 2


def test_without_a_rate_every_request_is_accepted():
    assert accepted(RateLimits(" "), None, "192.0.2.1", 100) == 100


def test_the_error_names_the_limit_and_the_time():
    limits = RateLimits("1/minute")
    limits.check(None, "a")
    with pytest.raises(ServingError, match=r"more than 1 per 1 minute. Wait \d\d.\d s") as caught:
        limits.check(None, "a")
    assert 50 < caught.value.retry_after <= 60


@pytest.mark.parametrize(
    ("client", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_the_network_of_a_client(client, network):
    assert network_of(client) == network


@given(st.text())
def test_any_client_has_a_network(client):
    assert len(network_of(client)) <= 64


@pytest.mark.parametrize("text", ["", "x", "0/minute", "5/fortnight", "-1/hour", "1/minute" * 20])
def test_an_invalid_rate_limit_is_refused(text):
    with pytest.raises(InputError, match=r"^serving.rate_limit: .* is not a rate limit. Write"):
        parse_rate_limit(text)


@pytest.mark.parametrize("url", ["x", "http://host", "redis://[", "redis://host:port/0"])
def test_an_invalid_address_of_redis_is_refused(url):
    with pytest.raises(InputError, match="CATIMAGE_REDIS_URL: "):
        RateLimits("1/hour", url)


def test_without_redis_the_replica_counts_and_asks_again_after_a_pause(caplog):
    timer, failures = Clock(), []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"redis://user:hidden@127.0.0.1:{free.getsockname()[1]}/0"
        limits = RateLimits("3/hour", url, lambda: failures.append(1), timer)
        assert limits.blocks
        for _ in range(3):
            limits.check(None, "192.0.2.1")
        assert len(failures) == limits.failures == 1
        with pytest.raises(ServingError, match="more than 3 per 1 hour"):
            limits.check(None, "192.0.2.1")
        timer.now += 5
        with pytest.raises(ServingError):
            limits.check(None, "192.0.2.1")
        assert limits.failures == 2
    assert "Redis failed (ConnectionError)" in caplog.text and "hidden" not in caplog.text
