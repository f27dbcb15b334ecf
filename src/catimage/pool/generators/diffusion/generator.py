"""The generator of the kind ``diffusers``: one class for all text-to-image pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from catimage.pool.device_memory import DeviceMemory
from catimage.pool.generators.diffusion.caching import caching
from catimage.pool.generators.diffusion.loading import load_pipeline
from catimage.pool.generators.diffusion.sampling import (
    guidance_arguments,
    has_argument,
    new_scheduler,
)
from catimage.pool.generators.diffusion.spec import DiffusersSpec
from catimage.pool.generators.diffusion.text import (
    Rows,
    TextEmbeddings,
    embedding_names,
    encode,
    repeat_row,
)
from catimage.pool.spec import Candidate


class DiffusionGenerator:
    """A loaded pipeline of diffusers that generates images from (prompt, seed) pairs.

    The initial noise of an image depends on its seed only
    (``torch.Generator().manual_seed(seed)`` on the CPU), not on the prompt, the number of steps or
    the other images of the batch (CATImage paper, section 5.2: "a fixed seed across different
    numbers of steps"). The image is therefore that of ``pipeline(prompt,
    generator=torch.Generator().manual_seed(seed), ...)``, up to rounding errors that may differ
    between batch sizes and devices.

    Other generators may share the pipeline's modules, so each call undoes its changes to them.

    Args:
        spec: the generator.
        folder: the folder of the pool file.
        memory: the device, and the parts that are already loaded.

    Raises:
        InputError: the weights, the pipeline class or the scheduler class are unavailable.
    """

    def __init__(self, spec: DiffusersSpec, folder: Path, memory: DeviceMemory) -> None:
        self.spec = spec
        self.pipeline = load_pipeline(spec, folder, memory)
        self.modules = [
            part for part in self.pipeline.components.values() if isinstance(part, torch.nn.Module)
        ]
        self._memory = memory
        self._scheduler = self.pipeline.scheduler
        self._names = embedding_names(type(self.pipeline))
        self._unconditional: dict[str, Rows] = {}

    def encode(self, prompts: list[str]) -> TextEmbeddings:
        """Encode each distinct prompt once. Prompts beyond the encoder's context are truncated.

        The result is empty for pipelines whose call takes no embeddings. Such pipelines encode the
        prompts in each call.
        """
        distinct = list(dict.fromkeys(prompts))
        rows = {prompt: row for row, prompt in enumerate(distinct)}
        return TextEmbeddings(rows, self._encode(distinct, negative=False))

    @torch.inference_mode()
    def generate(
        self,
        prompts: list[str],
        candidate: Candidate,
        seeds: list[int],
        encoded: TextEmbeddings | None = None,
    ) -> np.ndarray:
        """Generate one image per (prompt, seed) pair, as one batch.

        Args:
            prompts: n prompts.
            candidate: a candidate of this generator: its number of steps, and its settings.
            seeds: n seeds.
            encoded: the result of :meth:`encode` for a list that contains these prompts; None
                encodes them in this call.

        Returns:
            uint8 array of shape (n, size, size, 3).

        Raises:
            ValueError: the numbers of prompts and seeds differ.
            InputError: the images contain NaN or infinity, because of the dtype or the steps.
        """
        if len(prompts) != len(seeds):
            raise ValueError(
                f"{len(prompts)} prompts and {len(seeds)} seeds. Pass one seed per prompt."
            )
        images = self._run_pipeline(prompts, candidate, seeds, encoded)
        if not np.isfinite(images).all():
            raise self.spec.error(
                "dtype",
                f"the images of the candidate {candidate.candidate!r} are not finite. Set dtype"
                " bfloat16 or float32, or another number of steps.",
            )
        pixels: np.ndarray = (images * 255).round().astype(np.uint8)
        return pixels

    def _run_pipeline(
        self,
        prompts: list[str],
        candidate: Candidate,
        seeds: list[int],
        encoded: TextEmbeddings | None,
    ) -> np.ndarray:
        """Return floating-point images of shape (n, size, size, 3)."""
        spec = self.spec.with_settings_of(candidate)
        text = self._text_arguments(spec, prompts, encoded)
        self._memory.load(self.modules)
        self.pipeline.scheduler = new_scheduler(spec, self._scheduler)
        with caching(spec, self.pipeline, candidate.steps):
            images: np.ndarray = self.pipeline(
                **text,
                **guidance_arguments(spec, type(self.pipeline)),
                **spec.call,
                height=spec.size,
                width=spec.size,
                num_inference_steps=candidate.steps,
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                output_type="np",
            ).images
        return images

    def _text_arguments(
        self, spec: DiffusersSpec, prompts: list[str], encoded: TextEmbeddings | None
    ) -> dict[str, Any]:
        """Return embeddings as arguments of the call, or prompts if the call has none for them."""
        if not self._names:
            arguments: dict[str, Any] = {"prompt": prompts}
            if spec.guided and has_argument(type(self.pipeline), "negative_prompt"):
                arguments["negative_prompt"] = [""] * len(prompts)
            return arguments
        rows = (encoded or self.encode(prompts)).take(prompts)
        if spec.guided:
            unconditional = self._unconditional_embeddings().items()
            rows |= {name: repeat_row(row, len(prompts)) for name, row in unconditional}
        return rows

    def _unconditional_embeddings(self) -> dict[str, Rows]:
        """Return the embeddings of the empty prompt, encoded on first use."""
        if not self._unconditional:
            self._unconditional = self._encode([""], negative=True)
        return self._unconditional

    def _encode(self, prompts: list[str], negative: bool) -> dict[str, Rows]:
        if not self._names:
            return {}
        self._memory.load(self.modules)
        return encode(
            self.pipeline, self._names, prompts, negative, self.spec.call, self._memory.device
        )
