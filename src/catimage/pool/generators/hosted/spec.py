"""What the file of a pool says of a model behind an HTTP API."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from catimage.errors import InputError
from catimage.pool.spec import Candidate, Convention, Facts, Generator, GeneratorSpec, Terms


class HostedSpec(GeneratorSpec):
    """A model that a server of OpenAI's shape runs: ``POST {base_url}/images/generations``, one
    request an image.

    Candidates share the server and have a price in USD an image each; ``model``, ``version``,
    ``quality`` and ``options`` (further fields of the request, as the server names them) may be a
    candidate's own. ``size`` is asked for and must come back.

    ``key_variable`` names the environment variable that holds the key (null: the server wants
    none); a key never stands in the file. ``response_format`` is left out of the request where it
    is null, as OpenAI's own models want it; an answer may hold base64 or a URL.

    Seeds: a hosted model is not deterministic. The seed goes with the request where the server
    takes one (``seeded: true``); elsewhere it only numbers the draws of one prompt, and the shards
    on disk are the only copy of an image. Servers change models behind a name: write the dated
    name, or a ``version`` of your own, which is part of what identifies the images.

    ``timeout`` is in seconds a try; ``retries`` is how often a request is sent again (after
    connection errors, timeouts, 408, 409, 429 and 5xx: when ``Retry-After`` says, or after 0.5 to 8
    s, doubling, with jitter); ``requests_a_minute`` and ``concurrency`` are what the account
    allows.
    """

    overridable: ClassVar[tuple[str, ...]] = ("model", "version", "quality", "options")
    unseen: ClassVar[tuple[str, ...]] = (
        "licence",
        "base_url",
        "key_variable",
        "response_format",
        "timeout",
        "retries",
        "requests_a_minute",
        "concurrency",
    )
    counted: ClassVar[bool] = False

    kind: Literal["hosted"]
    base_url: str = Field(pattern=r"^https?://[^/\s]+")
    model: str = Field(min_length=1)
    version: str = ""
    key_variable: str | None = Field("OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    quality: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    response_format: Literal["b64_json", "url"] | None = None
    seeded: bool = False
    timeout: float = Field(180, gt=0, allow_inf_nan=False)
    retries: int = Field(5, ge=0, le=20)
    requests_a_minute: float | None = Field(None, gt=0, allow_inf_nan=False)
    concurrency: int = Field(4, ge=1, le=64)

    def check(self, candidate: Candidate) -> None:
        """A price in USD there must be, and steps there are none.

        Raises:
            InputError: one of the two is otherwise.
        """
        who = f"{self._where}: the candidate {candidate.candidate!r} is hosted"
        if candidate.cost is None or candidate.unit != "usd":
            raise InputError(
                f"{who} and has no price; add 'cost' with its USD an image, and 'unit: usd'."
            )
        if candidate.steps != 1:
            raise InputError(f"{who}, and its server counts no steps; leave 'steps' out.")

    def key(self) -> str:
        """The key from the environment; a word that means nothing where the server wants none.

        Raises:
            InputError: the environment variable is not set.
        """
        key = os.environ.get(self.key_variable, "") if self.key_variable else "none"
        if not key:
            raise self.error(
                "key_variable",
                f"the environment variable {self.key_variable} is not set; put the server's key"
                " there.",
            )
        return key

    def identity(self, folder: Path) -> dict[str, Any]:
        """Its server; model and version are settings."""
        return {"server": self.base_url.rstrip("/")}

    def terms(
        self, folder: Path, candidates: list[Candidate], convention: Convention
    ) -> list[Terms]:
        """There is nothing to count."""
        raise self.error(
            "kind",
            "a hosted model has no TFLOPs that could be counted; give its candidates a cost in"
            " usd.",
        )

    def facts(self, folder: Path) -> Facts:
        """Whether its key is set."""
        try:
            self.key()
            missing = ""
        except InputError as error:
            missing = str(error)
        return Facts(" ".join([self.model, self.version]).strip(), None, None, missing)

    def prepare(self, folder: Path, candidates: list[Candidate], device: str) -> None:
        """A missing key is said here, before any generator of the pool is run.

        Raises:
            InputError: its environment variable is not set.
        """
        super().prepare(folder, candidates, device)
        self.key()

    def open(self, folder: Path, device: str = "auto") -> Generator:
        """Connects to nothing yet; ``device`` does not matter.

        Raises:
            InputError: the key or the package ``openai`` is missing.
        """
        from catimage.pool.generators.hosted.generator import HostedGenerator

        return HostedGenerator(self)
