"""TFLOPs of a diffusion generator's parts, counted from the models themselves on torch's meta device: no weights needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from catimage.pool.diffusion.spec import DiffusersSpec
from catimage.pool.diffusion.weights import config_folder, diffusers_class
from catimage.pool.spec import Candidate, Convention, Terms


@dataclass(frozen=True)
class Parts:
    """TFLOPs of one pass, for one image, of each part of a generator, and the scheduler that says how often it is called."""

    denoiser: float
    text_encoder: float
    decoder: float
    scheduler: Any

    def calls(self, steps: int) -> int:
        """Denoiser calls for a number of steps: as many for Euler, more for schedulers of higher order."""
        self.scheduler.set_timesteps(steps)
        return len(self.scheduler.timesteps)


def count_terms(spec: DiffusersSpec, folder: Path, candidates: list[Candidate], convention: Convention) -> list[Terms]:
    """TFLOPs of one image of each candidate; the parts are counted once.

    Raises:
        InputError: configuration files are not to be had, or the pipeline has parts that cannot be counted.
    """
    parts = count_parts(spec, folder, convention)
    return [_terms(spec.settled(c), c.steps, parts, convention) for c in candidates]


def _terms(spec: DiffusersSpec, steps: int, parts: Parts, convention: Convention) -> Terms:
    passes, calls = (2 if spec.guided else 1), parts.calls(steps)
    full = convention == "full"
    return Terms(
        denoiser=calls * passes * parts.denoiser,
        text_encoder=passes * parts.text_encoder if full else 0.0,
        decoder=parts.decoder if full else 0.0,
        denoiser_calls=calls,
        passes=passes,
    )


def count_parts(spec: DiffusersSpec, folder: Path, convention: Convention = "full") -> Parts:
    """Counts the parts of a Stable Diffusion pipeline (``text_encoder``, ``unet``, ``vae``) at the generator's image size.

    Raises:
        InputError: the configuration files are not there, or the pipeline has no such parts.
    """
    pipeline = diffusers_class(spec, "pipeline", spec.pipeline, "Pipeline")
    root = config_folder(spec, folder)
    index = pipeline.load_config(root)
    for part in ("unet", "vae", "text_encoder", "scheduler"):
        if not index.get(part, [None])[0]:
            raise spec.error("pipeline", f"cannot count the TFLOPs of {spec.pipeline}, which has no {part}; give its candidates a cost.")
    count_denoiser = count_flops if convention == "full" else count_projections
    with torch.device("meta"), torch.no_grad():
        unet, vae = _model(index["unet"], root / "unet"), _model(index["vae"], root / "vae")
        texts = [_model(index[n], root / n) for n in ("text_encoder", "text_encoder_2") if index.get(n, [None])[0]]
        latent = spec.size // 2 ** (len(vae.config.block_out_channels) - 1)
        tokens = texts[0].config.max_position_embeddings
        return Parts(
            denoiser=count_denoiser(unet, *_unet_inputs(unet, latent, tokens)),
            text_encoder=sum(count_flops(text, torch.zeros(1, tokens, dtype=torch.long)) for text in texts),
            decoder=count_flops(vae.decode, torch.empty(1, vae.config.latent_channels, latent, latent)),
            scheduler=_scheduler(spec, index["scheduler"], root / "scheduler"),
        )


def _model(entry: list[str], folder: Path) -> Any:
    """The model of one entry of model_index.json (library, class), without weights."""
    cls = getattr(import_module(entry[0]), entry[1])
    if entry[0] == "diffusers":
        return cls.from_config(cls.load_config(folder)).eval()
    return cls(cls.config_class.from_pretrained(folder)).eval()


def _scheduler(spec: DiffusersSpec, entry: list[str], folder: Path) -> Any:
    cls = diffusers_class(spec, "scheduler", spec.scheduler or entry[1], "Scheduler")
    with torch.device("cpu"):
        return cls.from_config(cls.load_config(folder))


def _unet_inputs(unet: Any, latent: int, tokens: int) -> tuple[Any, ...]:
    """Positional arguments of one call for one image; SDXL's has the pooled text and six sizes beside the tokens."""
    config = unet.config
    inputs = (torch.empty(1, config.in_channels, latent, latent), torch.empty(()), torch.empty(1, tokens, config.cross_attention_dim))
    if config.addition_embed_type != "text_time":
        return inputs
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    extra = {"text_embeds": torch.empty(1, pooled), "time_ids": torch.empty(1, 6)}
    return (*inputs, None, None, None, None, extra)


def count_flops(run: Callable[..., Any], *inputs: Any) -> float:
    """TFLOPs of one call: every matrix product and convolution, those of attention included."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run(*inputs)
    return float(counter.get_total_flops()) / 1e12


def count_projections(model: torch.nn.Module, *inputs: Any) -> float:
    """TFLOPs of one forward pass in linear and convolutional layers alone, as layer-wise counters have it."""
    total = 0

    def add(layer: Any, _: Any, out: torch.Tensor) -> None:
        nonlocal total
        total += 2 * out.numel() * layer.weight[0].numel()

    layers = [m for m in model.modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d))]
    hooks = [layer.register_forward_hook(add) for layer in layers]
    try:
        model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return total / 1e12
