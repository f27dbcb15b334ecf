"""Every diffusion generator: one class over the pipelines of diffusers."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from catimage.devices import device_of
from catimage.pool.diffusion.spec import DiffusersSpec
from catimage.pool.diffusion.weights import diffusers_class, local_weights
from catimage.pool.spec import Candidate

_EMBEDS = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
"""What ``encode_prompt`` returns, in order; ``__call__`` takes it back under these names. Stable Diffusion has the first two."""


@dataclass(frozen=True)
class Encoded:
    """Text embeddings of distinct prompts: ``row[prompt]`` is a prompt's row in each of ``tensors``."""

    row: dict[str, int]
    tensors: dict[str, torch.Tensor]

    def take(self, prompts: list[str]) -> dict[str, torch.Tensor]:
        """The embeddings of ``prompts``, one row each, in their order."""
        rows = torch.tensor([self.row[p] for p in prompts])
        return {name: tensor[rows.to(tensor.device)] for name, tensor in self.tensors.items()}


class DiffusionGenerator:
    """A loaded diffusers pipeline that makes images from (prompt, seed) pairs.

    An image's initial noise comes from its seed alone (``torch.Generator().manual_seed(seed)`` on the CPU), whatever the
    prompt, the number of steps and the other images of the batch (CATImage 5.2: "a fixed seed across different numbers
    of steps"). So ``pipeline(prompt, generator=torch.Generator().manual_seed(seed), ...)`` makes the same image again,
    up to the rounding of floating-point sums, which may differ between batch sizes and devices.

    Raises:
        InputError: the weights, pipeline, scheduler or device are not to be had.
    """

    def __init__(self, spec: DiffusersSpec, folder: Path, device: str = "auto") -> None:
        self.spec = spec
        self.device = device_of(device)
        self.pipeline = _load(spec, folder).to(self.device)
        self._scheduler = self.pipeline.scheduler
        self._negative: dict[str, torch.Tensor] = {}

    def encode(self, prompts: list[str]) -> Encoded:
        """Encodes each distinct prompt once. Prompts longer than the text encoder's context are cut."""
        distinct = list(dict.fromkeys(prompts))
        return Encoded({p: i for i, p in enumerate(distinct)}, self._encode(distinct, negative=False))

    @torch.inference_mode()
    def generate(self, prompts: list[str], candidate: Candidate, seeds: list[int], encoded: Encoded | None = None) -> np.ndarray:
        """One image a (prompt, seed) pair, as one batch: uint8 (n, size, size, 3).

        Args:
            prompts: n prompts.
            candidate: One of this generator's: its number of steps, and its settings.
            seeds: n seeds, one a prompt.
            encoded: What :meth:`encode` returned for these prompts, among others; by default they are encoded here.

        Raises:
            ValueError: there are not as many seeds as prompts.
        """
        if len(prompts) != len(seeds):
            raise ValueError(f"{len(prompts)} prompts and {len(seeds)} seeds: one seed a prompt is needed")
        spec = self.spec.settled(candidate)
        text = (encoded or self.encode(prompts)).take(prompts)
        for name, tensor in (self._empty() if spec.guided else {}).items():
            text[name] = tensor.expand(len(prompts), *tensor.shape[1:])
        self.pipeline.scheduler = _scheduler(spec, self._scheduler)
        rescale = {"guidance_rescale": spec.guidance_rescale} if spec.guidance_rescale else {}
        images = self.pipeline(
            **text, num_inference_steps=candidate.steps, guidance_scale=spec.guidance, height=spec.size, width=spec.size,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds], output_type="np", **rescale,
        ).images  # fmt: skip
        out: np.ndarray = (images * 255).round().astype(np.uint8)
        return out

    def _empty(self) -> dict[str, torch.Tensor]:
        """The empty prompt's embeddings, encoded when the first candidate with guidance needs them."""
        if not self._negative:
            self._negative = self._encode([""], negative=True)
        return self._negative

    @torch.inference_mode()
    def _encode(self, prompts: list[str], negative: bool) -> dict[str, torch.Tensor]:
        made = self.pipeline.encode_prompt(
            prompt=prompts, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=negative
        )
        named = zip(_EMBEDS, made, strict=False)
        return {name: tensor for name, tensor in named if tensor is not None and name.startswith("negative_") == negative}


def _load(spec: DiffusersSpec, folder: Path) -> Any:
    """The pipeline on the CPU, silent, from safetensors alone."""
    import diffusers
    import transformers

    cls = diffusers_class(spec, "pipeline", spec.pipeline, "Pipeline")
    source = local_weights(spec, folder) or spec.weights
    libraries: tuple[Any, ...] = (diffusers, transformers)
    for library in libraries:
        library.utils.logging.disable_progress_bar()
    try:
        pipeline = cls.from_pretrained(
            source, revision=spec.revision, dtype=getattr(torch, spec.dtype), use_safetensors=True,
            low_cpu_mem_usage=find_spec("accelerate") is not None,  # its default, without the warning that it is not installed
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise spec.error("weights", f"cannot load {spec.pipeline} from {source}: {' '.join(str(error).split()).rstrip('.')}.") from error
    pipeline.set_progress_bar_config(disable=True)
    return _channels_last(pipeline)


def _scheduler(spec: DiffusersSpec, own: Any) -> Any:
    """A fresh scheduler of the class and options that ``spec`` names, otherwise configured as the weights' ``own``."""
    cls = diffusers_class(spec, "scheduler", spec.scheduler, "Scheduler") if spec.scheduler else type(own)
    return cls.from_config(own.config, **spec.scheduler_options)


def _channels_last(pipeline: Any) -> Any:
    """Convolutions run 10 to 30 per cent faster in this memory format, on the CPU too."""
    for name in ("unet", "vae"):
        if getattr(pipeline, name, None) is not None:
            getattr(pipeline, name).to(memory_format=torch.channels_last)
    return pipeline
