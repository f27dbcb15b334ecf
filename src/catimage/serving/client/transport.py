"""HTTP requests with retries that cannot do work twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from catimage.serving.client.errors import NoAnswerError, response_error, seconds_to_wait

LONGEST_WAIT = 30.0
"""Seconds of a longer Retry-After are not waited for: the error is raised instead."""
_LOCAL = ("localhost", "127.0.0.1", "::1")


class Transport:
    """Sends requests to one service.

    A request is repeated if the service did no work for it: it could not be reached, or it answered
    429 or 503. The header ``x-should-retry: false`` of the response prevents a repetition.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        timeout: float,
        retries: int,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Create the session.

        Args:
            base_url: the URL of the service, with or without ``/v1``.
            api_key: the API key; None for a service without keys.
            timeout: seconds without any data after which a request fails.
            retries: largest number of repetitions of a request.
            transport: replaces the network.
            sleep: waits before a repetition.
        """
        url = httpx.URL(base_url.rstrip("/").removesuffix("/v1"))
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._session = httpx.Client(
            base_url=url,
            headers=headers,
            timeout=timeout,
            transport=transport,
            trust_env=url.host not in _LOCAL,  # no proxy relays requests to this machine
        )
        self._retries, self._sleep = retries, sleep

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Return the JSON document of the answer.

        Raises:
            ServiceError: the service answered with an error, or did not answer.
        """
        with self.open(method, path, body) as response:
            _read(response)
            try:
                return response.json()
            except ValueError as error:
                raise NoAnswerError(
                    f"{response.request.url}: the answer is not JSON. Check the URL of the service."
                ) from error

    @contextmanager
    def open(
        self, method: str, path: str, body: dict[str, Any] | None = None, signed: bool = False
    ) -> Iterator[httpx.Response]:
        """Send a request, and close the response at the end of the ``with`` block.

        Args:
            method: the HTTP method.
            path: the path, or a URL.
            body: the JSON body.
            signed: whether the URL is signed, so that the API key is not sent.

        Raises:
            ServiceError: see :meth:`request`.
        """
        request = self._session.build_request(method, path, json=body)
        if signed:
            request.headers.pop("Authorization", None)
        response = self._answer(request)
        try:
            yield response
        finally:
            response.close()

    def fetch(self, url: str) -> bytes:
        """Return the content of a signed image URL, which needs no key."""
        with self.open("GET", url, signed=True) as response:
            return _read(response)

    def lines(self, response: httpx.Response) -> Iterator[str]:
        """Yield the lines of a response while it arrives.

        Raises:
            ServiceError: the connection ended before the end of the response.
        """
        try:
            yield from response.iter_lines()
        except httpx.TransportError as error:
            raise _no_answer(response.request, error) from error

    def _answer(self, request: httpx.Request) -> httpx.Response:
        """Return the first response that is no error, or raise the error of the last one."""
        for attempt in range(self._retries + 1):
            last = attempt == self._retries
            try:
                response = self._session.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                if last:
                    raise _no_answer(request, error) from error
                self._sleep(0.5 * 2**attempt)
                continue
            except httpx.TransportError as error:  # the service may have done the work
                raise _no_answer(request, error) from error
            if response.is_success:
                return response
            _read(response)
            seconds = _wait_before_retry(response, attempt)
            if last or seconds is None:
                raise response_error(response)
            self._sleep(seconds)
        raise AssertionError("unreachable: the last attempt returns or raises")


def _wait_before_retry(response: httpx.Response, attempt: int) -> float | None:
    """Return the seconds to wait before the next attempt; None if there must be none."""
    if response.status_code not in (429, 503):
        return None
    if response.headers.get("x-should-retry", "").lower() == "false":
        return None
    seconds = seconds_to_wait(response)
    seconds = 0.5 * 2**attempt if seconds is None else seconds
    return seconds if seconds <= LONGEST_WAIT else None


def _read(response: httpx.Response) -> bytes:
    try:
        return response.read()
    except httpx.TransportError as error:
        raise _no_answer(response.request, error) from error


def _no_answer(request: httpx.Request, error: Exception) -> NoAnswerError:
    reason = str(error) or type(error).__name__
    return NoAnswerError(f"{request.url}: no answer ({reason}). Check that the service runs.")
