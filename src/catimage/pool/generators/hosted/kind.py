"""The kind ``hosted``: a model behind an HTTP API, with a price per image."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, ClassVar

from catimage.errors import InputError
from catimage.pool.device_memory import DeviceMemory
from catimage.pool.generators.hosted.errors import missing_package
from catimage.pool.generators.hosted.spec import HostedSpec
from catimage.pool.kind import Generator, GeneratorFacts, GeneratorKind
from catimage.pool.spec import Candidate, GeneratorSpec


class HostedKind(GeneratorKind[HostedSpec]):
    """A model behind an HTTP API. Its candidates require a price; TFLOPs cannot be counted."""

    schema: ClassVar[type[GeneratorSpec]] = HostedSpec
    counted: ClassVar[bool] = False
    remote: ClassVar[bool] = True

    def check(self, candidate: Candidate) -> None:
        """Check that the candidate has a price in USD and no steps."""
        prefix = f"{self.spec.location}: the hosted candidate {candidate.candidate!r}"
        if candidate.cost is None or candidate.unit != "usd":
            raise InputError(
                f"{prefix} has no price. Add 'cost', in USD per image, and 'unit: usd'."
            )
        if candidate.steps != 1:
            raise InputError(
                f"{prefix} has 'steps', which its server does not support. Remove the key."
            )

    def prepare(self, candidates: list[Candidate], device: str) -> None:
        """Check that the API key is set and that the package ``openai`` is installed."""
        super().prepare(candidates, device)
        self._check_requirements()

    def _check_requirements(self) -> None:
        from catimage.pool.generators.hosted.generator import api_key

        if find_spec("openai") is None:
            raise missing_package(self.spec)
        api_key(self.spec)

    def identity(self) -> dict[str, Any]:
        """Return the URL of the server. (The model and its version are settings.)"""
        return {"server": self.spec.base_url.rstrip("/")}

    def facts(self) -> GeneratorFacts:
        """Return the model and its version, and a message if a key or a package is missing."""
        missing = ""
        try:
            self._check_requirements()
        except InputError as error:
            missing = str(error)
        revision = " ".join([self.spec.model, self.spec.version]).strip()
        return GeneratorFacts(revision, None, None, missing)

    def load(self, memory: DeviceMemory) -> Generator:
        """Create the HTTP client, which connects at the first request. The device is not used."""
        from catimage.pool.generators.hosted.generator import HostedGenerator

        return HostedGenerator(self.spec)
