"""What the file of a pool says of a generator that DistriFusion spreads over several GPUs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from catimage.errors import InputError
from catimage.pool.generators.diffusion.spec import DiffusersSpec
from catimage.pool.spec import Candidate, Convention, Facts, Generator, GeneratorSpec, Terms

PACKAGES = (
    "distrifuser==0.0.1b1 torch==2.2.2 transformers==4.38.2 huggingface-hub==0.25.2"
    ' accelerate==0.27.2 "numpy<2"'
)
"""What the environment is made of; distrifuser itself pins diffusers 0.24."""


class DistrifusionSpec(GeneratorSpec):
    """Stable Diffusion (1 and 2) or SDXL with displaced patch parallelism, by the published package
    ``distrifuser``.

    That package pins an old diffusers, so it lives in an environment of its own, whose interpreter
    is ``python`` (relative to the pool's file, or with ``~``). ``devices`` GPUs, a power of two,
    make one image: with guidance, two halves of them take a pass each, and within a half every GPU
    a patch; so patches begin at four. The first ``warmup_steps`` of an image are synchronous;
    ``mode`` is how group norms synchronise afterwards. Noise is drawn from the seed as in the
    ``diffusers`` kind.

    ``start_timeout`` and ``timeout`` are the seconds that loading and one image may take.
    """

    overridable: ClassVar[tuple[str, ...]] = ("guidance",)
    unseen: ClassVar[tuple[str, ...]] = (
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

    def alone(self) -> DiffusersSpec:
        """The same generator on one GPU, by today's diffusers."""
        shared = (
            "size",
            "licence",
            "pipeline",
            "weights",
            "revision",
            "configuration",
            "scheduler",
            "scheduler_options",
            "guidance",
            "dtype",
        )
        made = DiffusersSpec(**{key: getattr(self, key) for key in shared})
        made._where = self._where
        return made

    def interpreter(self, folder: Path) -> Path:
        """The interpreter of the package's environment.

        Raises:
            InputError: there is none; says how to make the environment.
        """
        path = folder / Path(self.python).expanduser()
        if not path.is_file():
            home = path.parent.parent
            commands = f"uv venv --python 3.11 {home} && uv pip install --python {path} {PACKAGES}"
            raise self.error(
                "python",
                f"there is no {path}; make the environment of distrifuser with: {commands}.",
            )
        return path

    def check(self, candidate: Candidate) -> None:
        """What is checked of the same generator on one GPU."""
        self.alone().check(candidate)

    def identity(self, folder: Path) -> dict[str, Any]:
        """Its weights by content (hub ids: by revision)."""
        return self.alone().identity(folder)

    def terms(
        self, folder: Path, candidates: list[Candidate], convention: Convention
    ) -> list[Terms]:
        """Those of the same generator on one GPU, but that every GPU encodes the text and decodes
        the image by itself.

        Patches change nothing in the denoiser's own operations: borders and keys are sent between
        GPUs, not computed twice, except for the text's keys and values in cross-attention, which
        every GPU makes (a thousandth of the whole); these are not counted.
        """
        terms = self.alone().terms(folder, candidates, convention)
        n = self.devices
        return [
            dataclasses.replace(t, text_encoder=n * t.text_encoder, decoder=n * t.decoder)
            for t in terms
        ]

    def facts(self, folder: Path) -> Facts:
        """Those of the same generator on one GPU; each of the ``devices`` holds all of the weights."""
        facts = self.alone().facts(folder)
        try:
            self.interpreter(folder)
        except InputError:
            return dataclasses.replace(facts, missing="the environment of distrifuser is not there")
        return facts

    def sources(self) -> dict[str, str]:
        """Its weights."""
        return {"weights": self.weights}

    def prepare(self, folder: Path, candidates: list[Candidate], device: str) -> None:
        """Looks for the environment, and fetches the weights.

        Raises:
            InputError: there is no environment, or no weights.
        """
        from catimage.pool.generators.distrifusion.generator import weights_folder

        super().prepare(folder, candidates, device)
        self.interpreter(folder)
        weights_folder(self, folder)

    def open(self, folder: Path, device: str = "auto") -> Generator:
        """Starts the worker; which GPUs it has is for ``CUDA_VISIBLE_DEVICES`` to say."""
        from catimage.pool.generators.distrifusion.generator import DistrifusionGenerator

        return DistrifusionGenerator(self, folder)
