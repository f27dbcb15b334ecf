"""The generator of the kind ``diffusers``: one class for all text-to-image pipelines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from catimage.errors import InputError, error_summary
from catimage.pool.device_memory import DeviceMemory
from catimage.pool.generators.diffusion.caching import caching
from catimage.pool.generators.diffusion.call import negative_prompts, other_arguments
from catimage.pool.generators.diffusion.classes import SAFETY_CHECKER
from catimage.pool.generators.diffusion.loading import load_pipeline
from catimage.pool.generators.diffusion.sampling import (
    guidance_arguments,
    has_argument,
    new_scheduler,
)
from catimage.pool.generators.diffusion.spec import DiffusersSpec
from catimage.pool.generators.diffusion.steps import call_after_steps
from catimage.pool.generators.diffusion.text import (
    Rows,
    TextEmbeddings,
    embedding_names,
    encode,
    encode_negative,
    repeat_row,
    text_options,
)
from catimage.pool.refusal import RefusedImages
from catimage.pool.spec import Candidate
from catimage.pool.stepwise import GenerationStopped, StepHook

_CACHED_NEGATIVE_PROMPTS = 64
"""Number of negative prompts whose embeddings are cached; those of requests are any text."""


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
        spec: the generator's settings in the pool file.
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
        self._unconditional: dict[str, dict[str, Rows]] = {}

    def encode(self, prompts: list[str]) -> TextEmbeddings:
        """Encode each distinct prompt once. Prompts beyond the encoder's context are truncated.

        The result is empty for pipelines whose call takes no embeddings. Such pipelines encode the
        prompts in each call. Candidates whose ``call`` changes the encoding add their own
        embeddings when their first images are generated.
        """
        rows = {prompt: row for row, prompt in enumerate(dict.fromkeys(prompts))}
        encoded = TextEmbeddings(rows, {})
        if self._names:
            self._embeddings(self.spec, encoded)
        return encoded

    @torch.inference_mode()
    def generate(
        self,
        prompts: list[str],
        candidate: Candidate,
        seeds: list[int],
        encoded: TextEmbeddings | None = None,
        on_step: StepHook | None = None,
    ) -> np.ndarray:
        """Generate one image per (prompt, seed) pair, as one batch.

        Args:
            prompts: n prompts.
            candidate: a candidate of this generator: its number of steps, and its settings.
            seeds: n seeds.
            encoded: the result of :meth:`encode` for these prompts; None encodes them in this call.
            on_step: called after every denoising step.

        Returns:
            uint8 array of shape (n, size, size, 3).

        Raises:
            ValueError: the numbers of prompts and seeds differ.
            RefusedImages: the safety checker of the weights flags images.
            InputError: the images contain NaN or infinity, because of the dtype or the steps, or
                the pipeline fails with a setting.
        """
        n, m = len(prompts), len(seeds)
        if n != m:
            raise ValueError(f"{n} prompts and {m} seeds. Pass one seed per prompt.")
        images, flagged = self._run_pipeline(prompts, candidate, seeds, encoded, on_step)
        if not np.isfinite(images).all():
            raise self.spec.error(
                "dtype",
                f"the images of the candidate {candidate.candidate!r} are not finite. Set dtype"
                " bfloat16 or float32, or another number of steps.",
            )
        pixels: np.ndarray = (images * 255).round().astype(np.uint8)
        if any(flagged):
            raise self._refusal(candidate, prompts, seeds, pixels, flagged)
        return pixels

    def _refusal(
        self,
        candidate: Candidate,
        prompts: list[str],
        seeds: list[int],
        pixels: np.ndarray,
        flagged: list[bool],
    ) -> RefusedImages:
        """Return the exception for images that the safety checker has replaced by black ones."""
        reasons = {
            i: f"the safety checker flags the image of {candidate.candidate!r} for the prompt"
            f" {prompts[i]!r} at seed {seeds[i]}"
            for i, is_flagged in enumerate(flagged)
            if is_flagged
        }
        images = {i: image for i, image in enumerate(pixels) if i not in reasons}
        fix = (
            "Remove the prompt, set generate.on_refusal to skip, or leave the checker out with"
            f" 'parts: {{{SAFETY_CHECKER}: null}}'"
        )
        where = f"{self.spec.location}.parts.{SAFETY_CHECKER}"
        return RefusedImages(where, images, reasons, fix)

    def _run_pipeline(
        self,
        prompts: list[str],
        candidate: Candidate,
        seeds: list[int],
        encoded: TextEmbeddings | None,
        on_step: StepHook | None,
    ) -> tuple[np.ndarray, list[bool]]:
        """Return floating-point images (n, size, size, 3), and whether each of them is flagged."""
        spec = self.spec.with_settings_of(candidate)
        with _settings_named_in_errors(spec):
            text = self._text_arguments(spec, prompts, encoded)
        self._memory.load(self.modules)
        self.pipeline.scheduler = new_scheduler(spec, self._scheduler)
        if on_step is not None:
            call_after_steps(self.pipeline, spec.size, on_step)
        with caching(spec, self.pipeline, candidate.steps), _settings_named_in_errors(spec):
            output = self.pipeline(
                **text,
                **guidance_arguments(spec, type(self.pipeline)),
                **other_arguments(spec),
                height=spec.size,
                width=spec.size,
                num_inference_steps=candidate.steps,
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                output_type="np",
            )
        return output.images, _flagged(output)

    def _text_arguments(
        self, spec: DiffusersSpec, prompts: list[str], encoded: TextEmbeddings | None
    ) -> dict[str, Any]:
        """Return embeddings as arguments of the call, or prompts if the call has none for them."""
        if not self._names:
            texts = negative_prompts(spec)
            if spec.guided and has_argument(type(self.pipeline), "negative_prompt"):
                texts = {"negative_prompt": ""} | texts
            return {"prompt": prompts} | {n: [text] * len(prompts) for n, text in texts.items()}
        encoded = encoded or TextEmbeddings(
            {p: i for i, p in enumerate(dict.fromkeys(prompts))}, {}
        )
        rows = encoded.take(self._embeddings(spec, encoded), prompts)
        if spec.guided:
            unconditional = self._unconditional_embeddings(spec).items()
            rows |= {name: repeat_row(row, len(prompts)) for name, row in unconditional}
        return rows

    def _embeddings(self, spec: DiffusersSpec, encoded: TextEmbeddings) -> str:
        """Add the embeddings of a candidate's settings to ``encoded``; return their key in it."""
        options = text_options(spec, type(self.pipeline))
        key = repr(sorted(options.items()))
        if key not in encoded.tensors:
            self._memory.load(self.modules)
            encoded.tensors[key] = encode(
                self.pipeline, self._names, encoded.prompts, False, options, self._memory.device
            )
        return key

    def _unconditional_embeddings(self, spec: DiffusersSpec) -> dict[str, Rows]:
        """Return the embeddings of the negative prompt, encoded on first use."""
        key = repr(sorted(spec.call.items()))
        if key not in self._unconditional:
            self._memory.load(self.modules)
            self._unconditional[key] = encode_negative(
                self.pipeline, self._names, spec, self._memory.device
            )
        rows = self._unconditional[key] = self._unconditional.pop(key)  # now the last used
        if len(self._unconditional) > _CACHED_NEGATIVE_PROMPTS:
            self._unconditional.pop(next(iter(self._unconditional)))
        return rows


def _flagged(output: Any) -> list[bool]:
    """Return whether the safety checker has flagged each image of a pipeline's output."""
    flags = getattr(output, "nsfw_content_detected", None)
    if flags is None:
        return [False] * len(output.images)
    return [bool(flag) for flag in flags]


@contextmanager
def _settings_named_in_errors(spec: DiffusersSpec) -> Iterator[None]:
    """Convert an error of the pipeline to one that names the settings that may be the cause."""
    try:
        yield
    except (InputError, MemoryError, torch.OutOfMemoryError, GenerationStopped):
        raise
    except Exception as error:  # pipelines raise exceptions of any type
        keys = [key for key in ("call", "scheduler_options", "scheduler") if getattr(spec, key)]
        if not keys:
            raise
        reason = f"{type(error).__name__}: {error_summary(error)}"
        problem = f"{spec.pipeline} fails with {getattr(spec, keys[0])!r} ({reason})"
        raise spec.error(keys[0], f"{problem}. Correct the value.") from error
