"""Rate limits by API key, or by client address: in memory, or in Redis for several replicas."""

from __future__ import annotations

import ipaddress
import logging
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from limits import RateLimitItem
from limits.errors import ConfigurationError, StorageError
from limits.storage import MemoryStorage, MovingWindowSupport, Storage, storage_from_string
from limits.strategies import MovingWindowRateLimiter

from catimage.errors import InputError
from catimage.serving.messages import ApiKey, ServingError
from catimage.serving.rate_limits import parse_rate_limit

VARIABLE = "CATIMAGE_REDIS_URL"
"""Environment variable with the address of Redis."""
TIMEOUT_SECONDS = 0.25
"""Longest wait for Redis in a request."""
PAUSE_SECONDS = 5.0
"""Time for which Redis is not used after a failure."""
_LOG = logging.getLogger(__name__)


class RateLimits:
    """Rate limits over a moving window, so that no period of the window's length has more requests.

    If Redis does not respond, each replica counts its own requests for some seconds: requests are
    never refused because Redis is down, and the limits still apply per replica.

    Attributes:
        blocks: whether :meth:`check` may wait for a server, so needs a thread.
        failures: number of times that Redis has failed.
    """

    def __init__(
        self,
        default: str = "",
        redis_url: str | None = None,
        on_failure: Callable[[], object] | None = None,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare the limits; the first request connects to Redis.

        Args:
            default: limit of keys that have none of their own, and of client addresses; empty for
                no limit.
            redis_url: address of Redis; None to count in memory.
            on_failure: called when Redis has failed, to count it in a metric.
            timer: monotonic time in seconds.

        Raises:
            InputError: the default or the address is invalid.
        """
        self._default = parse_rate_limit(default) if default.strip() else []
        self._own: dict[str, list[RateLimitItem]] = {}
        self._local = MovingWindowRateLimiter(MemoryStorage())
        self._shared = MovingWindowRateLimiter(_redis(redis_url)) if redis_url else None
        self._on_failure, self._timer = on_failure, timer
        self._lock = threading.Lock()
        self._paused_until = -float("inf")
        self.blocks = self._shared is not None
        self.failures = 0

    def check(self, key: ApiKey | None, client: str = "") -> None:
        """Count a request.

        Args:
            key: the client; None if the service has no keys, or the request has none.
            client: address of the client, which counts without a key.

        Raises:
            ServingError: the limit is exceeded (429, ``rate_limit_exceeded``).
        """
        identity = f"key:{key.key_id}" if key else f"address:{network_of(client)}"
        for item in self._items(key):
            waited = self._hit(item, identity)
            if waited is not None:
                raise _exceeded(item, waited)

    def _items(self, key: ApiKey | None) -> list[RateLimitItem]:
        if key is None or key.rate_limit is None:
            return self._default
        text = key.rate_limit
        if text not in self._own:  # as many entries as the keys have different limits
            self._own[text] = parse_rate_limit(text, f"key {key.key_id}: rate_limit")
        return self._own[text]

    def _hit(self, item: RateLimitItem, identity: str) -> float | None:
        """Count a request; return None, or the seconds until the next one if there are too many."""
        if self._shared is not None and self._timer() >= self._paused_until:
            try:
                return _hit(self._shared, item, identity)
            except StorageError as error:
                self._pause(error)
        return _hit(self._local, item, identity)

    def _pause(self, error: StorageError) -> None:
        with self._lock:
            self.failures += 1
            self._paused_until = self._timer() + PAUSE_SECONDS
        kind = type(error.storage_error).__name__
        _LOG.warning("Redis failed (%s); this replica counts its own requests", kind)
        if self._on_failure is not None:
            self._on_failure()


def network_of(client: str) -> str:
    """Return the network that is one client: an IPv4 address, or an IPv6 network of 64 bits.

    A subscriber with IPv6 has at least 2^64 addresses. A text that is not an address is returned.
    """
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client[:64]
    if isinstance(address, ipaddress.IPv4Address):
        return client
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), 64), strict=False))


def _hit(limiter: MovingWindowRateLimiter, item: RateLimitItem, identity: str) -> float | None:
    if limiter.hit(item, "catimage", identity):
        return None
    stats = limiter.get_window_stats(item, "catimage", identity)
    return max(stats.reset_time - time.time(), 0.0)


def _exceeded(item: RateLimitItem, seconds: float) -> ServingError:
    return ServingError(
        f"rate limit: more than {item}. Wait {max(seconds, 0.1):.1f} seconds.",
        429,
        "rate_limit_exceeded",
        retry_after=seconds,
    )


def _redis(url: str) -> Storage:
    """Return the storage in a Redis server; no connection is opened.

    Raises:
        InputError: the address is invalid, or the package redis is not installed.
    """
    problem = "the value is not the URL of a Redis server"
    fix = "Use redis://HOST:6379/0 or rediss://USER:PASSWORD@HOST:6379/0."
    try:
        scheme = urlsplit(url).scheme
        if not scheme.startswith(("redis", "valkey")):
            raise InputError(f"{VARIABLE}: {problem}. {fix}")
        storage = storage_from_string(
            url,
            wrap_exceptions=True,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
        )
    except ConfigurationError as error:
        raise InputError(
            f"{VARIABLE}: a package for {scheme} is not installed, or {problem}. Run pip install"
            f" 'catimage[serve]'. {fix}"
        ) from error
    except ValueError as error:
        raise InputError(f"{VARIABLE}: {problem}. {fix}") from error
    assert isinstance(storage, Storage) and isinstance(storage, MovingWindowSupport)
    return storage
