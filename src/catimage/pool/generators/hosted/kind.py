"""The kind ``hosted``: a model behind an HTTP API, paid per image."""

from __future__ import annotations

from typing import Any, ClassVar

from catimage.errors import InputError
from catimage.pool.device_memory import DeviceMemory
from catimage.pool.generators.hosted.spec import HostedSpec
from catimage.pool.kind import Generator, GeneratorFacts, GeneratorKind
from catimage.pool.spec import Candidate, GeneratorSpec


class HostedKind(GeneratorKind[HostedSpec]):
    """A model behind an HTTP API. Its candidates give their price; TFLOPs cannot be counted."""

    schema: ClassVar[type[GeneratorSpec]] = HostedSpec
    counted: ClassVar[bool] = False

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
        """Check that the API key is set."""
        from catimage.pool.generators.hosted.generator import api_key

        super().prepare(candidates, device)
        api_key(self.spec)

    def identity(self) -> dict[str, Any]:
        """Return the server's URL; model and version are settings."""
        return {"server": self.spec.base_url.rstrip("/")}

    def facts(self) -> GeneratorFacts:
        """Return model and version, and whether the API key is missing."""
        from catimage.pool.generators.hosted.generator import api_key

        missing = ""
        try:
            api_key(self.spec)
        except InputError as error:
            missing = str(error)
        revision = " ".join([self.spec.model, self.spec.version]).strip()
        return GeneratorFacts(revision, None, None, missing)

    def load(self, memory: DeviceMemory) -> Generator:
        """Create the HTTP client. It connects with the first request and needs no device."""
        from catimage.pool.generators.hosted.generator import HostedGenerator

        return HostedGenerator(self.spec)
