"""The kind ``next-scale``: a next-scale autoregressive model with weights in a folder."""

from __future__ import annotations

from typing import Any, ClassVar

from catimage.pool.device_memory import DeviceMemory
from catimage.pool.generators.next_scale.spec import NextScaleSpec
from catimage.pool.kind import Convention, CostTerms, Generator, GeneratorFacts, GeneratorKind
from catimage.pool.spec import Candidate, GeneratorSpec


class NextScaleKind(GeneratorKind[NextScaleSpec]):
    """A next-scale model, loaded from safetensors files."""

    schema: ClassVar[type[GeneratorSpec]] = NextScaleSpec

    def prepare(self, candidates: list[Candidate], device: str) -> None:
        """Check that all files exist and that the model has enough scales for each candidate."""
        from catimage.pool.generators.next_scale.weights import (
            check_files,
            check_steps,
            read_architecture,
        )

        super().prepare(candidates, device)
        check_files(self.spec, self.folder)
        for candidate in candidates:
            check_steps(self.spec, candidate, read_architecture(self.spec, self.folder))

    def check_offline(self, candidates: list[Candidate]) -> None:
        """Check that the model has enough scales for each candidate."""
        from catimage.pool.generators.next_scale.weights import check_steps, read_architecture

        super().check_offline(candidates)
        for candidate in candidates:
            check_steps(self.spec, candidate, read_architecture(self.spec, self.folder))

    def identity(self) -> dict[str, Any]:
        """Return the digests of the weights, the text encoder and the text tokenizer."""
        from catimage.pool.generators.next_scale.weights import identity

        return identity(self.spec, self.folder)

    def count_costs(self, candidates: list[Candidate], convention: Convention) -> list[CostTerms]:
        """Count TFLOPs on torch's meta device; the transformer is called once per scale."""
        from catimage.pool.generators.next_scale.counting import count_costs

        return count_costs(self.spec, self.folder, candidates, convention)

    def facts(self) -> GeneratorFacts:
        """Return the digest of the weights and the memory that the model requires."""
        from catimage.pool.generators.next_scale.counting import generator_facts

        return generator_facts(self.spec, self.folder)

    def sources(self) -> dict[str, str]:
        """Return the folders of the model and of the text encoder."""
        return {"weights": self.spec.weights, "text": self.spec.text}

    def load(self, memory: DeviceMemory) -> Generator:
        """Load the model and the text encoder."""
        from catimage.pool.generators.next_scale.generator import NextScaleGenerator

        return NextScaleGenerator(self.spec, self.folder, memory.device)
