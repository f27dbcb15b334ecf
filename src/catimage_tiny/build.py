"""The build folder: training data, encoded examples, and the parts trained so far."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from catimage_tiny.autoencoder import encode_latents
from catimage_tiny.data import Scenes, training_scenes
from catimage_tiny.denoiser import Examples
from catimage_tiny.next_scale import ImageTokenizer, encode_features
from catimage_tiny.recipe import PartSettings, Recipe, TrainingRecord
from catimage_tiny.text_encoder import encode_captions, text_encoder_from


class Build:
    """A folder in which one recipe is trained, part by part, on one device.

    Args:
        folder: Created if it does not exist.
        recipe: Settings of all parts. A folder belongs to one recipe.
        device: Where to train.
        workers: Processes that render scenes.

    Raises:
        SystemExit: The folder has parts trained with another recipe.
    """

    def __init__(
        self, folder: Path, recipe: Recipe, device: torch.device, workers: int = 1
    ) -> None:
        self.folder, self.recipe, self.device, self.workers = folder, recipe, device, workers
        self.scenes = cache(self._scenes)
        self.examples = cache(self._examples)
        folder.mkdir(parents=True, exist_ok=True)
        request, file = json.dumps(asdict(recipe), indent=2) + "\n", folder / "request.json"
        if file.exists() and file.read_text() != request:
            raise SystemExit(
                f"{folder}: has parts trained with another recipe. Delete it, or choose another"
                " folder with --build."
            )
        file.write_text(request)

    def train(self, part: str, train_part: Callable[[Build], TrainingRecord]) -> None:
        """Train a part and record the outcome, unless the folder has it already."""
        file = self.folder / f"{part}.record.json"
        if file.exists():
            print(f"{part}: already trained", flush=True)
            return
        torch.manual_seed(0)
        record = train_part(self)
        file.write_text(json.dumps({"loss": record.loss, "seconds": record.seconds}))

    def records(self) -> list[TrainingRecord]:
        """Return the outcomes of all parts, in the recipe's order."""
        return [
            TrainingRecord(
                part, settings, **json.loads((self.folder / f"{part}.record.json").read_text())
            )
            for part, settings in self.recipe.parts.items()
        ]

    def settings(self, part: str) -> PartSettings:
        """Return the settings of a part."""
        return self.recipe.parts[part]

    def _scenes(self, name: str) -> Scenes:
        """Return the set of training scenes of that name; rendered on the first call."""
        scene_set = next(s for s in self.recipe.scene_sets if s.name == name)
        return training_scenes(self.folder, scene_set, self.workers)

    def images(self, *names: str) -> torch.Tensor:
        """Return the images of some sets: uint8 (n, 64, 64, 3), on the device."""
        arrays = [self.scenes(name).images for name in names]
        return torch.from_numpy(np.concatenate(arrays)).to(self.device)

    def captions(self, *names: str) -> list[str]:
        """Return the captions of some sets, in the order of :meth:`images`."""
        return [caption for name in names for caption in self.scenes(name).captions]

    def _examples(self, name: str) -> Examples:
        """Return the latents and text of a set's scenes, on the device; encoded on the first call.

        The parts ``clip`` and ``vae`` must have been trained.
        """
        from diffusers import AutoencoderKL

        text_encoder, tokenizer = text_encoder_from(self.folder / "clip")
        text_encoder.to(self.device)
        vae: Any = AutoencoderKL.from_pretrained(self.folder / "vae").to(self.device)
        return Examples(
            encode_latents(vae, self.images(name)),
            encode_captions(text_encoder, tokenizer, self.captions(name)),
            encode_captions(text_encoder, tokenizer, [""])[0],
        )

    def features(self, name: str) -> Examples:
        """Return :meth:`examples` with the image tokenizer's features in place of latents."""
        examples = self.examples(name)
        features = encode_features(self.image_tokenizer(), self.images(name))
        return Examples(features, examples.text, examples.empty)

    def denoiser(self, part: str) -> Any:
        """Return a trained denoiser, on the device."""
        from diffusers import UNet2DConditionModel

        net = UNet2DConditionModel.from_pretrained(self.folder / part)
        return net.to(self.device, memory_format=torch.channels_last)

    def image_tokenizer(self) -> ImageTokenizer:
        """Return the trained image tokenizer, on the device."""
        tokenizer = ImageTokenizer()
        tokenizer.load_state_dict(self.load_state("tokenizer"))
        return tokenizer.to(self.device).eval()

    def save_state(self, part: str, model: torch.nn.Module) -> None:
        """Write the weights of a part that no library has a format for."""
        from safetensors.torch import save_file

        state = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
        save_file(state, self.folder / f"{part}.safetensors")

    def load_state(self, part: str) -> dict[str, torch.Tensor]:
        """Return what :meth:`save_state` wrote."""
        from safetensors.torch import load_file

        return load_file(self.folder / f"{part}.safetensors")
