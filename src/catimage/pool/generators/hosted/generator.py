"""The generator of the kind ``hosted``: images from an HTTP API.

The requests, retries and timeouts are those of the client in the package ``openai``.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from catimage.errors import InputError
from catimage.pool.generators.hosted.images import decode_base64, decode_image, download_image
from catimage.pool.generators.hosted.spec import HostedSpec
from catimage.pool.spec import Candidate

_MESSAGE_LENGTH = 500


class RateLimiter:
    """Limits the rate of requests from any number of threads, with equal intervals between them.

    Args:
        requests_per_minute: maximum rate.
    """

    def __init__(self, requests_per_minute: float) -> None:
        self._interval = 60 / requests_per_minute
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self, _: Any = None) -> None:
        """Wait until the next request may start."""
        with self._lock:
            start = max(self._next, time.monotonic())
            self._next = start + self._interval
        time.sleep(max(0.0, start - time.monotonic()))


class HostedGenerator:
    """Sends one request per image, with several requests at a time.

    Retries also count against the rate limit. After one request has failed in all attempts, no
    further requests of the batch are sent.

    Raises:
        InputError: the API key or the package ``openai`` is missing.
    """

    def __init__(self, spec: HostedSpec) -> None:
        try:
            import openai
        except ImportError as error:
            raise spec.error(
                "kind",
                "hosted models need the package openai. Run 'pip install \"catimage[hosted]\"'.",
            ) from error
        self.spec = spec
        limit = spec.requests_a_minute
        hooks = [RateLimiter(limit).wait] if limit else []
        self._client = openai.OpenAI(
            base_url=spec.base_url,
            api_key=api_key(spec),
            max_retries=spec.retries,
            timeout=spec.timeout,
            http_client=openai.DefaultHttpxClient(event_hooks={"request": hooks}),
        )

    def encode(self, prompts: list[str]) -> None:
        """Do nothing: the server encodes the prompts."""

    def generate(
        self, prompts: list[str], candidate: Candidate, seeds: list[int], encoded: Any = None
    ) -> np.ndarray:
        """Request one image per (prompt, seed) pair.

        Args:
            prompts: n prompts.
            candidate: a candidate of this generator.
            seeds: n seeds, sent to the server if the generator is ``seeded``.
            encoded: ignored.

        Returns:
            uint8 array of shape (n, size, size, 3).

        Raises:
            ValueError: the numbers of prompts and seeds differ.
            InputError: the server rejects a request or does not respond, or a response has no
                image of the requested size. The message contains the prompt.
        """
        spec = self.spec.with_settings_of(candidate)
        threads = ThreadPoolExecutor(spec.concurrency)
        try:
            pairs = list(zip(prompts, seeds, strict=True))
            images = threads.map(lambda pair: self._image(spec, candidate, *pair), pairs)
            return np.stack(list(images))
        finally:
            threads.shutdown(cancel_futures=True)

    def _image(self, spec: HostedSpec, candidate: Candidate, prompt: str, seed: int) -> np.ndarray:
        """Request one image: uint8 array of shape (size, size, 3)."""
        request = f"the request of {candidate.candidate!r} for the prompt {prompt!r}"
        response = self._send_request(spec, request, prompt, seed)
        data = response.data[0] if response.data else None
        if data is not None and data.b64_json:
            return decode_image(spec, request, decode_base64(spec, request, data.b64_json))
        if data is not None and data.url:
            return decode_image(spec, request, download_image(spec, request, data.url))
        raise spec.error(
            "base_url",
            f"the response of {spec.base_url} to {request} has no image. Check that the server"
            " supports the model and its options.",
        )

    def _send_request(self, spec: HostedSpec, request: str, prompt: str, seed: int) -> Any:
        """Send a request, and return the response object of the package ``openai``."""
        import openai

        fields = {"quality": spec.quality, "response_format": spec.response_format}
        arguments: dict[str, Any] = {
            name: value for name, value in fields.items() if value is not None
        }
        extra = {**spec.options, **({"seed": seed} if spec.seeded else {})}
        try:
            return self._client.images.generate(
                model=spec.model,
                prompt=prompt,
                n=1,
                size=f"{spec.size}x{spec.size}",
                extra_body=extra,
                **arguments,
            )
        except openai.APIError as error:
            raise _request_error(spec, request, error) from error


def api_key(spec: HostedSpec) -> str:
    """Return the API key from the environment; a placeholder if the server needs none.

    Raises:
        InputError: the environment variable is not set.
    """
    if spec.key_variable is None:
        return "none"
    key = os.environ.get(spec.key_variable, "")
    if not key:
        raise spec.error(
            "key_variable",
            f"the environment variable {spec.key_variable} is not set. Set it to the server's API"
            " key.",
        )
    return key


def _request_error(spec: HostedSpec, request: str, error: Any) -> InputError:
    """Return the error for a request that failed after all retries."""
    import openai

    server = spec.base_url
    if isinstance(error, openai.APITimeoutError):
        attempts = f"{spec.retries + 1} attempts of {spec.timeout:g} s"
        problem = f"{server} did not respond to {request} in {attempts}"
        return spec.error("base_url", f"{problem}. Increase 'timeout', or retry later.")
    if not isinstance(error, openai.APIStatusError):
        reason = _one_line(str(error.__cause__ or error))
        message = f"cannot send {request}: {server} is unavailable ({reason}). Retry later."
        return spec.error("base_url", message)
    reason = f"{_response_message(error)} (status {error.status_code})"
    if isinstance(error, openai.AuthenticationError):
        return spec.error(
            "key_variable",
            f"{server} rejects the key in {spec.key_variable}: {reason}. Set a valid key.",
        )
    if isinstance(error, (openai.RateLimitError, openai.InternalServerError)):
        attempts = f"in {spec.retries + 1} attempts"
        message = f"{server} failed at {request} {attempts}: {reason}. Retry later."
        return spec.error("base_url", message)
    return spec.error(
        "base_url",
        f"{server} rejects {request}: {reason}. Correct the candidate, or remove the prompt.",
    )


def _response_message(error: Any) -> str:
    """Return the error message in the response's body, or else that of the exception."""
    body = error.body
    in_body = isinstance(body, dict) and body.get("message")
    return _one_line(str(body["message"]) if in_body else error.message)


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")[:_MESSAGE_LENGTH]
