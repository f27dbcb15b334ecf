"""The kind ``distrifusion``: a diffusion model on several GPUs per image."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from catimage.errors import InputError
from catimage.pool.device_memory import DeviceMemory
from catimage.pool.generators.diffusion.kind import DiffusersKind
from catimage.pool.generators.distrifusion.spec import DistrifusionSpec
from catimage.pool.kind import Convention, CostTerms, Generator, GeneratorFacts, GeneratorKind
from catimage.pool.spec import Candidate, GeneratorSpec


class DistrifusionKind(GeneratorKind[DistrifusionSpec]):
    """A diffusion model that the package ``distrifuser`` runs on several GPUs (Li et al. 2024).

    Costs, memory and weights are those of the same model in the kind ``diffusers``.

    The package needs several GPUs, which were not available during development, so this kind has
    never generated an image with the package. Tests run the worker, its protocol and torchrun with
    two processes, with a fake pipeline instead of that of the package.
    """

    schema: ClassVar[type[GeneratorSpec]] = DistrifusionSpec
    verification: ClassVar[str] = (
        "cost counting and the worker's protocol (with a fake pipeline) have been run; image"
        " generation by the package distrifuser, which needs several GPUs, has not been run."
    )

    @property
    def _on_one_gpu(self) -> DiffusersKind:
        """The same model in the kind ``diffusers``."""
        return DiffusersKind(self.spec.on_one_gpu(), self.folder)

    def check(self, candidate: Candidate) -> None:
        """Check the candidate as one of the kind ``diffusers``."""
        self._on_one_gpu.check(candidate)

    def prepare(self, candidates: list[Candidate], device: str) -> None:
        """Check that the environment of ``distrifuser`` exists, and download the weights."""
        from catimage.pool.generators.distrifusion.generator import interpreter, weights_folder

        super().prepare(candidates, device)
        interpreter(self.spec, self.folder)
        weights_folder(self.spec, self.folder)

    def check_offline(self, candidates: list[Candidate]) -> None:
        """Check the settings of the candidates as those of the kind ``diffusers``."""
        self._on_one_gpu.check_offline(candidates)

    def identity(self) -> dict[str, Any]:
        """Return the digest (for a hub id, the revision) of the weights."""
        return self._on_one_gpu.identity()

    def count_costs(self, candidates: list[Candidate], convention: Convention) -> list[CostTerms]:
        """Count the costs of the same model on one GPU, with text encoder and decoder once per GPU.

        Patches do not change the number of the denoiser's operations, since the GPUs exchange
        borders and keys. One exception is not counted: every GPU computes the keys and values of
        the text in cross-attention, about a thousandth of the total.
        """
        gpus = self.spec.devices
        return [
            dataclasses.replace(
                terms, text_encoder=gpus * terms.text_encoder, decoder=gpus * terms.decoder
            )
            for terms in self._on_one_gpu.count_costs(candidates, convention)
        ]

    def facts(self) -> GeneratorFacts:
        """Return the facts of the same model on one GPU, since every GPU has all weights."""
        from catimage.pool.generators.distrifusion.generator import interpreter

        facts = self._on_one_gpu.facts()
        try:
            interpreter(self.spec, self.folder)
        except InputError:
            return dataclasses.replace(facts, missing="the environment of distrifuser is not found")
        return facts

    def sources(self) -> dict[str, str]:
        """Return the source of the weights."""
        return {"weights": self.spec.weights}

    def load(self, memory: DeviceMemory) -> Generator:
        """Start the worker process. ``CUDA_VISIBLE_DEVICES`` selects the GPUs."""
        from catimage.pool.generators.distrifusion.generator import DistrifusionGenerator

        return DistrifusionGenerator(self.spec, self.folder)
