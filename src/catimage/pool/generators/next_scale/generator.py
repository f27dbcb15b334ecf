"""Images from a next-scale model: text encoder, bits scale by scale, decoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from catimage.common.devices import device_of
from catimage.pool.generators.next_scale.model import Sampling, sample, thresholds_of
from catimage.pool.generators.next_scale.spec import NextScaleSpec
from catimage.pool.generators.next_scale.weights import check_steps, load_model, load_text
from catimage.pool.spec import Candidate


@dataclass(frozen=True)
class Encoded:
    """Hidden states (m, tokens, text_width) of distinct prompts; ``row[prompt]`` is a prompt's."""

    row: dict[str, int]
    states: torch.Tensor

    def take(self, prompts: list[str]) -> torch.Tensor:
        """Those of ``prompts``, in their order."""
        return self.states[torch.tensor([self.row[p] for p in prompts], device=self.states.device)]


class NextScaleGenerator:
    """A loaded next-scale model that makes images from (prompt, seed) pairs.

    The uniform numbers that decide an image's bits come from its seed alone, whatever the prompt,
    the number of scales and the other images of the batch. Floating-point sums may differ between
    batch sizes and devices, and turn over a bit where a number all but equals its probability.

    Raises:
        InputError: the weights or the device are not to be had.
    """

    def __init__(self, spec: NextScaleSpec, folder: Path, device: str = "auto") -> None:
        self.spec = spec
        self.device = device_of(device)
        self.model = load_model(spec, folder).to(self.device)
        self._text, self._tokenizer = load_text(spec, folder, self.model.architecture)
        self._text.to(self.device)
        self._nothing = self.encode([""]).states

    @torch.inference_mode()
    def encode(self, prompts: list[str]) -> Encoded:
        """Encodes each distinct prompt once. Prompts longer than the text encoder's context are
        cut.
        """
        distinct = list(dict.fromkeys(prompts))
        context = self._text.config.max_position_embeddings
        ids = self._tokenizer(
            distinct, padding="max_length", max_length=context, truncation=True, return_tensors="pt"
        ).input_ids
        states = self._text(ids.to(self.device)).last_hidden_state
        return Encoded({p: i for i, p in enumerate(distinct)}, states)

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
            candidate: One of this generator's: its number of scales (``steps``), and its settings.
            seeds: n seeds, one a prompt.
            encoded: What :meth:`encode` returned for these prompts, among others; by default they
                are encoded here.

        Raises:
            ValueError: there are not as many seeds as prompts.
            InputError: the model has not as many scales.
        """
        if len(prompts) != len(seeds):
            raise ValueError(
                f"{len(prompts)} prompts and {len(seeds)} seeds: one seed a prompt is needed"
            )
        spec, shape = self.spec.with_settings_of(candidate), self.model.architecture
        check_steps(spec, candidate, shape)
        sampling = Sampling(candidate.steps, spec.guidance, spec.temperature)
        text = (encoded or self.encode(prompts)).take(prompts)
        if sampling.guided:
            text = torch.cat([text, self._nothing.expand(len(text), -1, -1)])
        thresholds = thresholds_of(seeds, shape.tokens(candidate.steps), shape.bits).to(self.device)
        sums = sample(self.model.transformer, shape.scales, text, thresholds, sampling)
        pixels = self.model.decoder(sums).clamp(-1, 1).permute(0, 2, 3, 1)
        out: np.ndarray = ((pixels + 1) * 127.5).round().byte().cpu().numpy()
        return out
