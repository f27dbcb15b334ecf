"""The generator of the kind ``next-scale``: text encoder, bits scale by scale, decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from catimage.common.devices import device_of
from catimage.pool.generators.next_scale.model import Sampling, draw_thresholds, sample
from catimage.pool.generators.next_scale.spec import NextScaleSpec
from catimage.pool.generators.next_scale.weights import check_steps, load_model, load_text
from catimage.pool.spec import Candidate
from catimage.pool.stepwise import DenoisingStep, StepHook


@dataclass(frozen=True)
class EncodedText:
    """Hidden states of distinct prompts.

    Attributes:
        rows: index of the row of each prompt in ``states``.
        states: hidden states (m, tokens, text_width) of m distinct prompts.
    """

    rows: dict[str, int]
    states: torch.Tensor

    @classmethod
    def merge(cls, parts: Sequence[EncodedText]) -> EncodedText:
        """Return the hidden states of the prompts of all parts."""
        prompts = [prompt for part in parts for prompt in part.rows]
        rows = {prompt: row for row, prompt in enumerate(prompts)}
        return cls(rows, torch.cat([part.states for part in parts]))

    def take(self, prompts: list[str]) -> torch.Tensor:
        """Return the hidden states of ``prompts``, in their order."""
        rows = torch.tensor([self.rows[p] for p in prompts], device=self.states.device)
        return self.states[rows]


class NextScaleGenerator:
    """A loaded next-scale model.

    Bits are sampled by comparing their probabilities with uniform random numbers. These numbers
    depend on the seed of the image only, not on the prompt, the number of scales or the other
    images of the batch. Since floating-point sums can differ between batch sizes and devices, a bit
    can differ if its probability almost equals its random number.

    Args:
        spec: the generator's settings in the pool file.
        folder: the folder of the pool file.
        device: a device name of torch, or ``auto``.

    Raises:
        InputError: the weights or the device are unavailable.
    """

    def __init__(self, spec: NextScaleSpec, folder: Path, device: str = "auto") -> None:
        self.spec = spec
        self.device = device_of(device)
        self.model = load_model(spec, folder).to(self.device)
        self._text_encoder, self._tokenizer = load_text(spec, folder, self.model.architecture)
        self._text_encoder.to(self.device)
        self._empty = self.encode([""]).states

    @torch.inference_mode()
    def encode(self, prompts: list[str]) -> EncodedText:
        """Encode each distinct prompt once. Prompts beyond the encoder's context are truncated."""
        distinct = list(dict.fromkeys(prompts))
        context = self._text_encoder.config.max_position_embeddings
        ids = self._tokenizer(
            distinct, padding="max_length", max_length=context, truncation=True, return_tensors="pt"
        ).input_ids
        states = self._text_encoder(ids.to(self.device)).last_hidden_state
        return EncodedText({p: i for i, p in enumerate(distinct)}, states)

    @torch.inference_mode()
    def generate(
        self,
        prompts: list[str],
        candidate: Candidate,
        seeds: list[int],
        encoded: EncodedText | None = None,
        on_step: StepHook | None = None,
    ) -> np.ndarray:
        """Generate one image per (prompt, seed) pair, as one batch.

        Args:
            prompts: n prompts.
            candidate: a candidate of this generator; ``steps`` is its number of scales.
            seeds: n seeds, one per prompt.
            encoded: the result of :meth:`encode` for these prompts; None encodes them in this call.
            on_step: called after every scale.

        Returns:
            uint8 array of shape (n, size, size, 3).

        Raises:
            ValueError: the numbers of prompts and seeds differ.
            InputError: the candidate has more steps than the model has scales.
        """
        n, m = len(prompts), len(seeds)
        if n != m:
            raise ValueError(f"{n} prompts and {m} seeds. Pass one seed per prompt.")
        spec, shape = self.spec.with_settings_of(candidate), self.model.architecture
        check_steps(spec, candidate, shape)
        sampling = Sampling(candidate.steps, spec.guidance, spec.temperature)
        text = (encoded or self.encode(prompts)).take(prompts)
        if sampling.guided:
            text = torch.cat([text, self._empty.expand(len(text), -1, -1)])
        thresholds = draw_thresholds(seeds, shape.tokens(candidate.steps), shape.bits)
        noise, report = thresholds.to(self.device), partial(self._report, on_step, candidate.steps)
        sums = sample(self.model.transformer, shape.scales, text, noise, sampling, report)
        return self._decode(sums)

    def _report(
        self, on_step: StepHook | None, steps: int, number: int, sums: torch.Tensor
    ) -> None:
        """Call a hook after a scale, with the sums of the codes (n, bits, h, h)."""
        if on_step is not None:
            on_step(DenoisingStep(number, steps, lambda rows: self._decode(sums[[*rows]])))

    def _decode(self, sums: torch.Tensor) -> np.ndarray:
        """Decode sums of codes (n, bits, h, h) to pixels: uint8, (n, size, size, 3)."""
        pixels = self.model.decoder(sums).clamp(-1, 1).permute(0, 2, 3, 1)
        images: np.ndarray = ((pixels + 1) * 127.5).round().byte().cpu().numpy()
        return images
