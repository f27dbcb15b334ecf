"""What the file of a pool says of a diffusion generator."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from catimage.pool.spec import (
    Candidate,
    Convention,
    Facts,
    Generator,
    GeneratorSpec,
    Section,
    Terms,
)

if TYPE_CHECKING:
    from catimage.pool.device_memory import Workshop


class Source(Section):
    """Where weights beside the generator's own come from.

    ``weights`` is a folder relative to the pool's file, or a hub id with a ``revision``;
    ``subfolder`` is a folder in it.
    """

    weights: str = Field(min_length=1)
    revision: str | None = None
    subfolder: str | None = None


class Part(Source):
    """Where one part of a pipeline (``unet``, ``transformer``, ``vae``...) comes from, if not from
    the generator's own weights.

    ``file`` is a single safetensors file of weights, for a part whose configuration is the
    generator's own.
    """

    file: str | None = None


class Lora(Source):
    """A low-rank adapter: what is added to the weights of the denoiser, and of text encoders where
    it has something for them.

    ``file`` is its safetensors file, and ``scale`` what it is multiplied with before it is added: 0
    changes nothing.
    """

    file: str = "pytorch_lora_weights.safetensors"
    scale: float = Field(1.0, allow_inf_nan=False)


class Cache(BaseModel):
    """A caching method by name, and its options under the names that the library gives them."""

    model_config = ConfigDict(extra="allow", frozen=True)

    method: str

    @property
    def options(self) -> dict[str, Any]:
        """What is said beside the method."""
        return dict(self.model_extra or {})


class DiffusersSpec(GeneratorSpec):
    """A pipeline of diffusers and how it samples.

    ``weights`` is a folder in diffusers' format, relative to the pool's file, or a hub id, which
    needs a ``revision``; ``configuration`` is a folder with the same files but for the weights, so
    that costs need no download; ``variant`` (``fp16``) picks among the files of weights; ``parts``
    replace some of them, and ``lora`` is an adapter that is added to them. Without a ``scheduler``,
    the weights' own is used; ``scheduler_options`` replace entries of its configuration. ``steps``
    is the fewest and the most steps that the model is made for.

    ``guidance`` reaches the model in one of three ways. ``classifier-free``: every step takes two
    passes where it is more than 1 (argument ``guidance_scale``). ``true-cfg``: the same, of models
    that hold a distilled guidance beside (argument ``true_cfg_scale``; Qwen-Image). ``distilled``:
    a number that the denoiser reads, one pass (FLUX.1-dev, latent consistency models). ``call``
    holds further arguments of the pipeline's call, under the names that diffusers gives them.
    """

    overridable: ClassVar[tuple[str, ...]] = (
        "scheduler",
        "scheduler_options",
        "guidance",
        "guidance_rescale",
        "cache",
    )

    unseen: ClassVar[tuple[str, ...]] = (
        "licence",
        "weights",
        "revision",
        "configuration",
        "parts",
        "lora",
        "steps",
    )

    kind: Literal["diffusers"] = "diffusers"
    pipeline: str = "StableDiffusionPipeline"
    weights: str = Field(min_length=1)
    revision: str | None = None
    configuration: str | None = None
    parts: dict[str, Part] = Field(default_factory=dict)
    lora: Lora | None = None
    scheduler: str | None = None
    scheduler_options: dict[str, Any] = Field(default_factory=dict)
    steps: tuple[int, int] | None = None
    guidance: float = Field(7.5, ge=0)
    guidance_kind: Literal["classifier-free", "true-cfg", "distilled"] = "classifier-free"
    guidance_rescale: float = Field(0.0, ge=0, le=1)
    call: dict[str, Any] = Field(default_factory=dict)
    cache: Cache | None = None
    variant: str | None = None
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"

    @property
    def guided(self) -> bool:
        """Whether every denoising step takes two passes."""
        return self.guidance > 1 and self.guidance_kind != "distilled"

    def check(self, candidate: Candidate) -> None:
        """Knows the caching method, and keeps to the range of steps."""
        from catimage.pool.generators.diffusion.caching import check_method

        check_method(self.settled(candidate))
        fewest, most = self.steps or (1, candidate.steps)
        if not fewest <= candidate.steps <= most:
            raise self.error(
                "steps",
                f"the candidate {candidate.candidate!r} has {candidate.steps} steps, the model"
                f" {fewest} to {most}.",
            )

    def prepare(self, folder: Path, candidates: list[Candidate], device: str) -> None:
        """Fetches the weights, and fits classes, arguments, schedulers, caching methods and memory
        to them.
        """
        from catimage.pool.generators.diffusion.checks import check_candidate, check_generator

        super().prepare(folder, candidates, device)
        found = check_generator(self, folder, device)
        for candidate in candidates:
            check_candidate(self.settled(candidate), candidate, found)

    def identity(self, folder: Path) -> dict[str, Any]:
        """Its weights, parts and adapter by content (hub ids: by revision)."""
        from catimage.pool.generators.diffusion.weights import identity

        return identity(self, folder)

    def terms(
        self, folder: Path, candidates: list[Candidate], convention: Convention
    ) -> list[Terms]:
        """Counted on torch's meta device from the configuration files."""
        from catimage.pool.generators.diffusion.counting import count_terms

        return count_terms(self, folder, candidates, convention)

    def facts(self, folder: Path) -> Facts:
        """Counted likewise; weights are looked for on this machine alone."""
        from catimage.pool.generators.diffusion.facts import facts_of

        return facts_of(self, folder)

    def sources(self) -> dict[str, str]:
        """Its weights, those of its parts, and its adapter."""
        parts = {f"parts.{name}.weights": part.weights for name, part in self.parts.items()}
        return {
            "weights": self.weights,
            **parts,
            **({"lora.weights": self.lora.weights} if self.lora else {}),
        }

    def open(self, folder: Path, device: str = "auto") -> Generator:
        """Loads the pipeline from safetensors alone."""
        from catimage.pool.device_memory import Workshop

        return self.open_in(Workshop(device), folder)

    def open_in(self, workshop: Workshop, folder: Path) -> Generator:
        """Loads what of the pipeline is not in the workshop yet."""
        from catimage.pool.generators.diffusion.generator import DiffusionGenerator

        return DiffusionGenerator(self, folder, workshop)

    def part_keys(self, folder: Path) -> frozenset[Hashable]:
        """Its parts by their files and how they are loaded."""
        from catimage.pool.generators.diffusion.loading import part_keys

        return frozenset(part_keys(self, folder).values())
