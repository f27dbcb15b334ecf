"""The kind ``diffusers``: any text-to-image pipeline of the library diffusers."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, ClassVar

from catimage.pool.device_memory import DeviceMemory
from catimage.pool.generators.diffusion.spec import DiffusersSpec
from catimage.pool.kind import Convention, CostTerms, Generator, GeneratorFacts, GeneratorKind
from catimage.pool.spec import Candidate, GeneratorSpec


class DiffusersKind(GeneratorKind[DiffusersSpec]):
    """A pipeline of diffusers, with weights from a folder or from the hub."""

    schema: ClassVar[type[GeneratorSpec]] = DiffusersSpec
    linear_steps: ClassVar[bool] = True

    def check(self, candidate: Candidate) -> None:
        """Check the caching method and the number of steps."""
        from catimage.pool.generators.diffusion.caching import check_method

        spec = self.spec
        check_method(spec.with_settings_of(candidate))
        smallest, largest = spec.steps or (1, candidate.steps)
        if not smallest <= candidate.steps <= largest:
            raise spec.error(
                "steps",
                f"the candidate {candidate.candidate!r} has {candidate.steps} steps, but the model"
                f" supports {smallest} to {largest}. Change its 'steps'.",
            )

    def with_negative_prompt(self, candidate: Candidate, text: str) -> Candidate | None:
        """Set the argument ``negative_prompt`` of the pipeline's call, if there is guidance."""
        spec = self.spec.with_settings_of(candidate)
        if not spec.guided:
            return None
        other = {k: v for k, v in spec.call.items() if not k.startswith("negative_prompt")}
        return candidate.model_copy(update={"call": {**other, "negative_prompt": text}})

    def prepare(self, candidates: list[Candidate], device: str) -> None:
        """Download the weights, and check classes, arguments, schedulers, caching and memory."""
        from catimage.pool.generators.diffusion.checks import check_generator
        from catimage.pool.generators.diffusion.settings import check_candidate

        super().prepare(candidates, device)
        classes = check_generator(self.spec, self.folder, device)
        for candidate in candidates:
            check_candidate(self.spec.with_settings_of(candidate), candidate, classes)

    def check_offline(self, candidates: list[Candidate]) -> None:
        """Check the settings of the candidates, from the configuration files of the model."""
        from catimage.pool.generators.diffusion.counting import check_candidates
        from catimage.pool.generators.diffusion.facts import check_sources

        super().check_offline(candidates)
        check_sources(self.spec, self.folder)
        check_candidates(self.spec, self.folder, candidates)

    def identity(self) -> dict[str, Any]:
        """Return the digests or revisions of the weights, the replacement parts and the adapter."""
        from catimage.pool.generators.diffusion.weights import identity

        return identity(self.spec, self.folder)

    def count_costs(self, candidates: list[Candidate], convention: Convention) -> list[CostTerms]:
        """Count TFLOPs on torch's meta device, from the configuration files."""
        from catimage.pool.generators.diffusion.counting import count_costs

        return count_costs(self.spec, self.folder, candidates, convention)

    def facts(self) -> GeneratorFacts:
        """Count the memory from the configuration files, and look for weights on this machine."""
        from catimage.pool.generators.diffusion.facts import generator_facts

        return generator_facts(self.spec, self.folder)

    def sources(self) -> dict[str, str]:
        """Return the sources of the weights, the replacement parts and the adapter."""
        spec = self.spec
        replaced = spec.replaced_parts.items()
        parts = {f"parts.{name}.weights": part.weights for name, part in replaced}
        adapter = {"lora.weights": spec.lora.weights} if spec.lora else {}
        return {"weights": spec.weights, **parts, **adapter}

    def load(self, memory: DeviceMemory) -> Generator:
        """Load the parts of the pipeline that are not in ``memory`` from safetensors files."""
        from catimage.pool.generators.diffusion.generator import DiffusionGenerator

        return DiffusionGenerator(self.spec, self.folder, memory)

    def part_keys(self) -> frozenset[Hashable]:
        """Return the keys of all parts that generators can share."""
        from catimage.pool.generators.diffusion.loading import part_keys

        return frozenset(part_keys(self.spec, self.folder).values())
