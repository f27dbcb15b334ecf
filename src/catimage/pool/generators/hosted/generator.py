"""The generator of the kind ``hosted``: images from an HTTP API.

The requests, retries and timeouts are those of the client in the package ``openai``.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Any

import numpy as np

from catimage.pool.generators.hosted.errors import RefusedRequest, missing_package, request_error
from catimage.pool.generators.hosted.images import decode_base64, decode_image, download_image
from catimage.pool.generators.hosted.rate_limiter import RateLimiter
from catimage.pool.generators.hosted.spec import HostedSpec
from catimage.pool.kind import SaveImage
from catimage.pool.spec import Candidate


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
            raise missing_package(spec) from error
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
        images: dict[int, np.ndarray] = {}

        def save(position: int, image: np.ndarray, seconds: float) -> None:
            images[position] = image

        self.request_images(prompts, candidate, seeds, save)
        return np.stack([images[position] for position in range(len(prompts))])

    def request_images(
        self,
        prompts: list[str],
        candidate: Candidate,
        seeds: list[int],
        save: SaveImage,
        max_refusals: int | None = 0,
    ) -> dict[int, str]:
        """Request one image per pair; see :class:`~catimage.pool.kind.PaidGenerator`.

        If a request fails, no further requests are sent, and the images of running requests are
        saved.

        Raises:
            ValueError: the numbers of prompts and seeds differ.
            InputError: a request fails or is refused.
        """
        spec, arrived = self.spec.with_settings_of(candidate), threading.Event()

        def request(position: int, prompt: str, seed: int) -> None:
            start = time.perf_counter()
            image = self._image(spec, candidate, prompt, seed)
            arrived.set()
            save(position, image, time.perf_counter() - start)

        pairs = enumerate(zip(prompts, seeds, strict=True))
        threads = ThreadPoolExecutor(spec.concurrency)
        try:
            futures = {threads.submit(request, i, *pair): i for i, pair in pairs}
            return _refusals(futures, max_refusals, arrived)
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
        raise RefusedRequest(
            spec,
            f"the response of {spec.base_url} to {request} has no image",
            "Check that the server supports the model and its options",
        )

    def _send_request(self, spec: HostedSpec, request: str, prompt: str, seed: int) -> Any:
        """Send a request, and return the response object of the package ``openai``."""
        import openai

        fields = {"quality": spec.quality, "response_format": spec.response_format}
        arguments: dict[str, Any] = {
            name: value for name, value in fields.items() if value is not None
        }
        always = {"model": spec.model, "n": 1, "size": f"{spec.size}x{spec.size}"}
        arguments |= {name: value for name, value in always.items() if name not in spec.omit}
        extra = {**spec.options, **({"seed": seed} if spec.seeded else {})}
        try:
            return self._client.images.generate(prompt=prompt, extra_body=extra, **arguments)
        except openai.APIError as error:
            raise request_error(spec, request, error) from error


def _refusals(
    requests: Mapping[Future[None], int], max_refusals: int | None, arrived: threading.Event
) -> dict[int, str]:
    """Wait for requests, and return the reasons of refused ones by position.

    Args:
        requests: the position of each request.
        max_refusals: see :class:`~catimage.pool.kind.PaidGenerator`.
        arrived: set as soon as an image has arrived.

    Raises:
        InputError: a request failed, or too many were refused.
    """
    reasons: dict[int, str] = {}
    for future in as_completed(requests):
        try:
            future.result()
        except RefusedRequest as error:
            reasons[requests[future]] = error.reason
            is_limit_reached = max_refusals is not None and len(reasons) >= max_refusals
            if max_refusals == 0 or (is_limit_reached and not arrived.is_set()):
                raise
    return reasons


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
