"""Schema of a diffusion generator in a pool file."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from catimage.pool.spec import GeneratorSpec, PoolSection


class WeightsSource(PoolSection):
    """Location of weights that replace or change weights of the generator.

    Attributes:
        weights: a folder relative to the pool file, or a hub id.
        revision: commit of the hub repository; required if ``weights`` is a hub id.
        subfolder: folder within ``weights``.
    """

    weights: str = Field(min_length=1)
    revision: str | None = None
    subfolder: str | None = None


class PipelinePart(WeightsSource):
    """Weights of one part of a pipeline (``unet``, ``transformer``, ``vae``, ...).

    Attributes:
        file: name of a single safetensors file. The configuration of the part is then that of the
            generator's own weights. None if the folder has a configuration and weights in
            diffusers' format.
    """

    file: str | None = None


class Lora(WeightsSource):
    """A low-rank adapter, added to the weights of the denoiser and the text encoders.

    Attributes:
        file: name of the adapter's safetensors file.
        scale: factor of the adapter's weights; with 0, the adapter has no effect.
    """

    file: str = "pytorch_lora_weights.safetensors"
    scale: float = Field(1.0, allow_inf_nan=False)


class CachingMethod(BaseModel):
    """A caching method of the denoiser.

    Further keys are options of the method, with the names that diffusers uses.

    Attributes:
        method: name of the method; see :mod:`catimage.pool.generators.diffusion.caching`.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    method: str

    @property
    def options(self) -> dict[str, Any]:
        """The options of the method."""
        return dict(self.model_extra or {})


class DiffusersSpec(GeneratorSpec):
    """A pipeline of diffusers and its sampling settings.

    Attributes:
        pipeline: name of the pipeline class in diffusers.
        weights: a folder in diffusers' format, relative to the pool file, or a hub id.
        revision: commit of the hub repository; required if ``weights`` is a hub id.
        configuration: a folder with the configuration files of ``weights``, so that costs can be
            counted without a download.
        parts: weights that replace those of parts of the pipeline, by name of the part; None
            leaves out an optional part, such as ``safety_checker``.
        lora: low-rank adapter that is added to the weights.
        scheduler: name of a scheduler class in diffusers; by default that of the weights.
        scheduler_options: entries that override the scheduler's configuration.
        steps: smallest and largest number of steps that the model supports.
        guidance: guidance scale.
        guidance_kind: use of the guidance scale. ``classifier-free``: two passes per step if the
            scale is above 1 (argument ``guidance_scale``). ``true-cfg``: the same, for models that
            also have distilled guidance (argument ``true_cfg_scale``; Qwen-Image). ``distilled``:
            the scale is an input of the denoiser, with one pass per step (FLUX.1-dev, latent
            consistency models).
        guidance_rescale: argument ``guidance_rescale`` of the pipeline's call.
        call: further arguments of the pipeline's call, such as ``negative_prompt``.
        cache: caching method of the denoiser.
        variant: variant of the weight files, such as ``fp16``.
        dtype: data type of the weights in memory.
    """

    overridable: ClassVar[tuple[str, ...]] = (
        "scheduler",
        "scheduler_options",
        "guidance",
        "guidance_rescale",
        "call",
        "cache",
    )
    excluded_from_definition: ClassVar[tuple[str, ...]] = (
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
    parts: dict[str, PipelinePart | None] = Field(default_factory=dict)
    lora: Lora | None = None
    scheduler: str | None = None
    scheduler_options: dict[str, Any] = Field(default_factory=dict)
    steps: tuple[int, int] | None = None
    guidance: float = Field(7.5, ge=0)
    guidance_kind: Literal["classifier-free", "true-cfg", "distilled"] = "classifier-free"
    guidance_rescale: float = Field(0.0, ge=0, le=1)
    call: dict[str, Any] = Field(default_factory=dict)
    cache: CachingMethod | None = None
    variant: str | None = None
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"

    @property
    def guided(self) -> bool:
        """Whether every denoising step takes two passes."""
        return self.guidance > 1 and self.guidance_kind != "distilled"

    @property
    def replaced_parts(self) -> dict[str, PipelinePart]:
        """The parts with weights of their own, by name."""
        return {name: part for name, part in self.parts.items() if part is not None}

    @property
    def omitted_parts(self) -> tuple[str, ...]:
        """The names of the parts that are left out."""
        return tuple(name for name, part in self.parts.items() if part is None)
