"""Schema of a DistriFusion generator in a pool file."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from catimage.pool.generators.diffusion.spec import DiffusersSpec
from catimage.pool.spec import GeneratorSpec


class DistrifusionSpec(GeneratorSpec):
    """Stable Diffusion (1 and 2) or SDXL with displaced patch parallelism on several GPUs.

    The published package ``distrifuser`` runs it. The package requires an old version of diffusers,
    so it is installed in a separate environment. Each half of the GPUs computes one of the two
    passes of guidance, and each GPU of a half computes one patch of the image. With one or two
    GPUs, the image is one patch. The noise is drawn from the seed as in the kind ``diffusers``.

    Attributes:
        python: path of the environment's Python interpreter, relative to the pool file or
            beginning with ``~``.
        devices: number of GPUs per image, a power of two.
        warmup_steps: number of steps at the start of an image that are synchronous.
        mode: synchronization mode of ``distrifuser`` after the warm-up steps.
        pipeline, weights, revision, configuration, scheduler, scheduler_options, guidance, dtype:
            as in :class:`~catimage.pool.generators.diffusion.spec.DiffusersSpec`.
        start_timeout: time limit in seconds for loading the weights.
        timeout: time limit in seconds for one image.
    """

    overridable: ClassVar[tuple[str, ...]] = ("guidance",)
    excluded_from_definition: ClassVar[tuple[str, ...]] = (
        "licence",
        "weights",
        "revision",
        "configuration",
        "python",
        "start_timeout",
        "timeout",
    )

    kind: Literal["distrifusion"]
    python: str = Field("~/.cache/catimage/distrifusion/bin/python", min_length=1)
    devices: int = Field(4, ge=1, le=64)
    warmup_steps: int = Field(4, ge=0)
    mode: Literal[
        "corrected_async_gn", "stale_gn", "separate_gn", "sync_gn", "full_sync", "no_sync"
    ] = "corrected_async_gn"
    pipeline: Literal["StableDiffusionPipeline", "StableDiffusionXLPipeline"] = (
        "StableDiffusionPipeline"
    )
    weights: str = Field(min_length=1)
    revision: str | None = None
    configuration: str | None = None
    scheduler: str | None = None
    scheduler_options: dict[str, Any] = Field(default_factory=dict)
    guidance: float = Field(7.5, gt=1, allow_inf_nan=False)
    dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    start_timeout: float = Field(600, gt=0, allow_inf_nan=False)
    timeout: float = Field(300, gt=0, allow_inf_nan=False)

    @field_validator("devices")
    @classmethod
    def _power_of_two(cls, devices: int) -> int:
        if devices & (devices - 1):
            raise ValueError("must be a power of two")
        return devices

    def on_one_gpu(self) -> DiffusersSpec:
        """Return the same generator as one of the kind ``diffusers``."""
        shared_fields = DiffusersSpec.model_fields.keys() & type(self).model_fields.keys()
        spec = DiffusersSpec(**{key: getattr(self, key) for key in shared_fields - {"kind"}})
        spec.set_location(self.location)
        return spec
