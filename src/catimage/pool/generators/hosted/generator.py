"""Images from an HTTP API of OpenAI's shape; the ``openai`` package does the requests, their
retries and their timeouts.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from catimage.errors import InputError
from catimage.pool.generators.hosted.spec import HostedSpec
from catimage.pool.spec import Candidate


class Pace:
    """Lets requests start at most so often a minute, evenly spaced, from any number of threads."""

    def __init__(self, requests_a_minute: float) -> None:
        self._gap = 60 / requests_a_minute
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self, _: Any = None) -> None:
        """Returns when the next request may start."""
        with self._lock:
            start = max(self._next, time.monotonic())
            self._next = start + self._gap
        time.sleep(max(0.0, start - time.monotonic()))


class HostedGenerator:
    """A server that is asked for one image a request, several requests at a time.

    Retries count against the rate limit too. The first request that fails for good ends the batch:
    what is not sent yet is not sent.

    Raises:
        InputError: the key or the package ``openai`` is missing.
    """

    def __init__(self, spec: HostedSpec) -> None:
        try:
            import openai
        except ImportError as error:
            raise spec.error(
                "kind",
                "hosted models need the package openai; run 'pip install \"catimage[hosted]\"'.",
            ) from error
        self.spec = spec
        paced = [Pace(spec.requests_a_minute).wait] if spec.requests_a_minute else []
        self._client = openai.OpenAI(
            base_url=spec.base_url,
            api_key=api_key(spec),
            max_retries=spec.retries,
            timeout=spec.timeout,
            http_client=openai.DefaultHttpxClient(event_hooks={"request": paced}),
        )

    def encode(self, prompts: list[str]) -> None:
        """Nothing: the server reads the text itself."""

    def generate(
        self, prompts: list[str], candidate: Candidate, seeds: list[int], encoded: Any = None
    ) -> np.ndarray:
        """One image a (prompt, seed) pair, each a request of its own: uint8 (n, size, size, 3).

        Raises:
            ValueError: there are not as many seeds as prompts.
            InputError: the server refuses (with its message and the prompt), does not answer, or
                answers with something else than an image of the size that was asked for.
        """
        spec = self.spec.with_settings_of(candidate)
        threads = ThreadPoolExecutor(spec.concurrency)
        try:
            pairs = list(zip(prompts, seeds, strict=True))
            return np.stack(
                list(threads.map(lambda pair: self._image(spec, candidate, *pair), pairs))
            )
        finally:
            threads.shutdown(cancel_futures=True)

    def _image(self, spec: HostedSpec, candidate: Candidate, prompt: str, seed: int) -> np.ndarray:
        where = f"the candidate {candidate.candidate!r} for the prompt {prompt!r}"
        answer = self._answer(spec, where, prompt, seed)
        data = answer.data[0] if answer.data else None
        if data is not None and data.b64_json:
            return _pixels(spec, where, _decoded(spec, where, data.b64_json))
        if data is not None and data.url:
            return _pixels(spec, where, _downloaded(spec, where, data.url))
        raise spec.error("base_url", f"the answer of {spec.base_url} to {where} holds no image.")

    def _answer(self, spec: HostedSpec, where: str, prompt: str, seed: int) -> Any:
        import openai

        fields = {"quality": spec.quality, "response_format": spec.response_format}
        asked: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
        extra = {**spec.options, **({"seed": seed} if spec.seeded else {})}
        try:
            return self._client.images.generate(
                model=spec.model,
                prompt=prompt,
                n=1,
                size=f"{spec.size}x{spec.size}",
                extra_body=extra,
                **asked,
            )
        except openai.APIError as error:
            raise _said(spec, where, error) from error


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


def _said(spec: HostedSpec, where: str, error: Any) -> InputError:
    """What went wrong with a request, in one sentence."""
    import openai

    if isinstance(error, openai.APITimeoutError):
        tries = f"in {spec.retries + 1} tries of {spec.timeout:g} s"
        return spec.error(
            "base_url",
            f"{spec.base_url} did not answer {where} {tries}; raise 'timeout', or run again later.",
        )
    if not isinstance(error, openai.APIStatusError):
        reason = _line(str(error.__cause__ or error))
        return spec.error(
            "base_url",
            f"{spec.base_url} is not to be had ({reason}) for {where}; run again when it is.",
        )
    message = f"{_message(error)} (status {error.status_code})"
    if isinstance(error, openai.AuthenticationError):
        return spec.error(
            "key_variable", f"{spec.base_url} refuses the key in {spec.key_variable}: {message}."
        )
    if isinstance(error, (openai.RateLimitError, openai.InternalServerError)):
        return spec.error(
            "base_url",
            f"{spec.base_url} failed {where} {spec.retries + 1} times: {message}; run again later.",
        )
    return spec.error(
        "base_url",
        f"{spec.base_url} refuses {where}: {message}; mend the candidate, or leave the prompt out.",
    )


def _message(error: Any) -> str:
    body = error.body
    return _line(
        str(body["message"]) if isinstance(body, dict) and body.get("message") else error.message
    )


def _line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")[:500]


def _decoded(spec: HostedSpec, where: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise spec.error(
            "base_url", f"the answer of {spec.base_url} to {where} is not base64 ({error})."
        ) from error


def _downloaded(spec: HostedSpec, where: str, url: str) -> bytes:
    """The image behind a URL, without the key: it lies on another server as a rule."""
    import urllib3

    again = urllib3.Retry(
        spec.retries,
        backoff_factor=0.5,
        backoff_jitter=0.5,
        status_forcelist=(408, 429, 500, 502, 503, 504),
    )
    try:
        answer = urllib3.request("GET", url, retries=again, timeout=spec.timeout)
    except urllib3.exceptions.HTTPError as error:
        raise spec.error(
            "base_url", f"cannot fetch the image of {where} from {url} ({_line(str(error))})."
        ) from error
    if answer.status != 200:
        raise spec.error(
            "base_url", f"cannot fetch the image of {where} from {url} (status {answer.status})."
        )
    return answer.data


def _pixels(spec: HostedSpec, where: str, data: bytes) -> np.ndarray:
    """The image as uint8 (size, size, 3)."""
    try:
        image = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise spec.error(
            "base_url",
            f"the answer of {spec.base_url} to {where} is no readable image ({_line(str(error))}).",
        ) from error
    if image.shape != (spec.size, spec.size, 3):
        sizes = f"{image.shape[1]}x{image.shape[0]} pixels, not {spec.size}x{spec.size}"
        raise spec.error(
            "size",
            f"{spec.base_url} made an image of {sizes}, as {where}; set the size that it makes.",
        )
    return image
