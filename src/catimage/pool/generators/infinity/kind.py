"""The kind ``infinity``: Infinity-2B, which the package of its authors runs."""

from __future__ import annotations

from typing import Any, ClassVar

from catimage.errors import InputError
from catimage.pool.device_memory import DeviceMemory
from catimage.pool.generators.infinity.spec import InfinitySpec
from catimage.pool.kind import Convention, CostTerms, Generator, GeneratorFacts, GeneratorKind
from catimage.pool.spec import Candidate, GeneratorSpec


class InfinityKind(GeneratorKind[InfinitySpec]):
    """Infinity-2B (CATImage paper, section 5.1; Han et al. 2024).

    The package of its authors is not in a package index, and the published weights were not
    available during development, so this kind has never generated an image with them. Costs are
    counted from the architecture. Tests convert and load checkpoints with random weights, and use a
    fake package with the same interface.
    """

    schema: ClassVar[type[GeneratorSpec]] = InfinitySpec
    verification: ClassVar[str] = (
        "cost counting and the conversion of checkpoints with random weights have been run; the"
        " authors' package, which is not in a package index, and the published weights have not."
    )

    def check(self, candidate: Candidate) -> None:
        """Check that the candidate does not set steps, since the size determines the scales."""
        if candidate.steps != 1:
            raise InputError(
                f"{self.spec.location}: the candidate {candidate.candidate!r} has 'steps', but the"
                " size determines Infinity's scales. Remove the key."
            )

    def prepare(self, candidates: list[Candidate], device: str) -> None:
        """Check that the official package is installed, and download and convert the weights."""
        from catimage.pool.generators.infinity.package import official_package
        from catimage.pool.generators.infinity.weights import checkpoints

        super().prepare(candidates, device)
        official_package(self.spec)
        if not device.startswith("cuda"):
            raise self.spec.error(
                "kind",
                f"the official package requires CUDA, but the device is {device!r}. Use a GPU, or"
                " remove the generator's candidates.",
            )
        checkpoints(self.spec, self.folder)

    def identity(self) -> dict[str, Any]:
        """Return the digests or revisions of the weights and the text encoder."""
        from catimage.pool.generators.infinity.weights import identity

        return identity(self.spec, self.folder)

    def count_costs(self, candidates: list[Candidate], convention: Convention) -> list[CostTerms]:
        """Count TFLOPs on torch's meta device, from the architecture."""
        from catimage.pool.generators.infinity.counting import count_terms

        specs = [self.spec.with_settings_of(candidate) for candidate in candidates]
        return [count_terms(spec.size, spec.guided, convention) for spec in specs]

    def facts(self) -> GeneratorFacts:
        """Return the memory of the weights, and that of the keys and values of one image."""
        from catimage.pool.generators.infinity.counting import memory
        from catimage.pool.generators.infinity.weights import missing_requirements

        weights, activations = memory(self.spec.size, self.spec.guided)
        return GeneratorFacts(
            self.spec.revision or "",
            weights,
            weights + activations,
            missing_requirements(self.spec, self.folder),
        )

    def sources(self) -> dict[str, str]:
        """Return the sources of the model's weights and of the text encoder."""
        return {"weights": self.spec.weights, "text_encoder": self.spec.text_encoder}

    def load(self, memory: DeviceMemory) -> Generator:
        """Load the model with the official package."""
        from catimage.pool.generators.infinity.generator import InfinityGenerator

        return InfinityGenerator(self.spec, self.folder, memory.device)
