"""Every diffusion generator: one class over the pipelines of diffusers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from catimage.pool.device_memory import DeviceMemory
from catimage.pool.generators.diffusion.caching import caching
from catimage.pool.generators.diffusion.loading import load
from catimage.pool.generators.diffusion.sampling import guidance_arguments, scheduler_of, takes
from catimage.pool.generators.diffusion.spec import DiffusersSpec
from catimage.pool.generators.diffusion.text import Encoded, Rows, embedding_names, encode, repeated
from catimage.pool.spec import Candidate


class DiffusionGenerator:
    """A loaded diffusers pipeline that makes images from (prompt, seed) pairs.

    An image's initial noise comes from its seed alone (``torch.Generator().manual_seed(seed)`` on
    the CPU), whatever the prompt, the number of steps and the other images of the batch (CATImage
    5.2: "a fixed seed across different numbers of steps"). So ``pipeline(prompt,
    generator=torch.Generator().manual_seed(seed), ...)`` makes the same image again, up to the
    rounding of floating-point sums, which may differ between batch sizes and devices.

    Its modules may be another generator's too: what a candidate sets is taken back when its images
    are made.

    Raises:
        InputError: the weights, pipeline or scheduler are not to be had.
    """

    def __init__(self, spec: DiffusersSpec, folder: Path, memory: DeviceMemory) -> None:
        self.spec = spec
        self.pipeline = load(spec, folder, memory)
        self.modules = [
            part for part in self.pipeline.components.values() if isinstance(part, torch.nn.Module)
        ]
        self._memory = memory
        self._scheduler = self.pipeline.scheduler
        self._names = embedding_names(type(self.pipeline))
        self._negative: dict[str, Rows] = {}

    def encode(self, prompts: list[str]) -> Encoded:
        """Encodes each distinct prompt once. Prompts longer than the text encoder's context are
        cut.

        Pipelines whose call does not take embeddings encode with every batch; then there are no
        tensors.
        """
        distinct = list(dict.fromkeys(prompts))
        return Encoded(
            {p: i for i, p in enumerate(distinct)}, self._encode(distinct, negative=False)
        )

    @torch.inference_mode()
    def generate(
        self,
        prompts: list[str],
        candidate: Candidate,
        seeds: list[int],
        encoded: Encoded | None = None,
    ) -> np.ndarray:
        """One image a (prompt, seed) pair, as one batch: uint8 (n, size, size, 3).

        Args:
            prompts: n prompts.
            candidate: One of this generator's: its number of steps, and its settings.
            seeds: n seeds, one a prompt.
            encoded: What :meth:`encode` returned for these prompts, among others; by default they
                are encoded here.

        Raises:
            ValueError: there are not as many seeds as prompts.
            InputError: the numbers overflow in this dtype, or at this number of steps.
        """
        if len(prompts) != len(seeds):
            raise ValueError(
                f"{len(prompts)} prompts and {len(seeds)} seeds: one seed a prompt is needed"
            )
        spec = self.spec.with_settings_of(candidate)
        text = self._text(spec, prompts, encoded)
        self._memory.load(self.modules)
        self.pipeline.scheduler = scheduler_of(spec, self._scheduler)
        with caching(spec, self.pipeline, candidate.steps):
            images = self.pipeline(
                **text,
                **guidance_arguments(spec, type(self.pipeline)),
                **spec.call,
                height=spec.size,
                width=spec.size,
                num_inference_steps=candidate.steps,
                generator=[torch.Generator().manual_seed(s) for s in seeds],
                output_type="np",
            ).images
        if not np.isfinite(images).all():
            advice = "take dtype bfloat16 or float32, or another number of steps"
            raise self.spec.error(
                "dtype",
                f"the candidate {candidate.candidate!r} makes images that are not numbers;"
                f" {advice}.",
            )
        out: np.ndarray = (images * 255).round().astype(np.uint8)
        return out

    def _text(
        self, spec: DiffusersSpec, prompts: list[str], encoded: Encoded | None
    ) -> dict[str, Any]:
        """The call's arguments on text: embeddings, or the prompts themselves where the pipeline
        takes no embeddings.
        """
        if not self._names:
            empty = (
                {"negative_prompt": [""] * len(prompts)}
                if spec.guided and takes(type(self.pipeline), "negative_prompt")
                else {}
            )
            return {"prompt": prompts, **empty}
        text = (encoded or self.encode(prompts)).take(prompts)
        if spec.guided:
            text |= {name: repeated(rows, len(prompts)) for name, rows in self._empty().items()}
        return text

    def _empty(self) -> dict[str, Rows]:
        """The empty prompt's embeddings, encoded when the first candidate with guidance needs them."""
        if not self._negative:
            self._negative = self._encode([""], negative=True)
        return self._negative

    def _encode(self, prompts: list[str], negative: bool) -> dict[str, Rows]:
        if not self._names:
            return {}
        self._memory.load(self.modules)
        return encode(
            self.pipeline, self._names, prompts, negative, self.spec.call, self._memory.device
        )
