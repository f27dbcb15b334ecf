"""The build folder: training scenes, encoded training examples, and trained parts.

A part is one of the models of :data:`catimage_tiny.recipe.PARTS`.
"""

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
    """A folder for training all parts of one recipe on one device.

    Args:
        folder: The folder, which is created if it does not exist.
        recipe: Training settings of all parts.
        device: The device to train on.
        workers: Number of processes that render scenes.

    Attributes:
        scenes: Function that returns a scene set by name. The first call renders the scenes or
            reads them from the folder; later calls return the same object.
        examples: Function that returns the training examples of a scene set by name: latents and
            hidden states of the captions, on the device. The first call encodes them, for which the
            parts ``clip`` and ``vae`` must have been trained.

    Raises:
        SystemExit: The folder was created with another recipe.
    """

    def __init__(
        self, folder: Path, recipe: Recipe, device: torch.device, workers: int = 1
    ) -> None:
        self.folder, self.recipe, self.device, self.workers = folder, recipe, device, workers
        self.scenes = cache(self._scenes)
        self.examples = cache(self._examples)
        folder.mkdir(parents=True, exist_ok=True)
        text, file = json.dumps(asdict(recipe), indent=2) + "\n", folder / "request.json"
        if file.exists() and file.read_text() != text:
            raise SystemExit(
                f"{folder}: the folder was created with another recipe. Delete the folder, or"
                " choose another one with --build."
            )
        file.write_text(text)

    def train(self, part: str, train_part: Callable[[Build], TrainingRecord]) -> None:
        """Train a part and write its record, unless the folder already has the record.

        Args:
            part: Name of the part.
            train_part: Function that trains the part and writes its weights into the folder.
        """
        file = self.folder / f"{part}.record.json"
        if file.exists():
            print(f"{part}: already trained", flush=True)
            return
        torch.manual_seed(0)
        record = train_part(self)
        file.write_text(json.dumps({"loss": record.loss, "seconds": record.seconds}))

    def records(self) -> list[TrainingRecord]:
        """Return the training records of all parts, in the order of the recipe."""
        return [
            TrainingRecord(
                part, settings, **json.loads((self.folder / f"{part}.record.json").read_text())
            )
            for part, settings in self.recipe.parts.items()
        ]

    def settings(self, part: str) -> PartSettings:
        """Return the training settings of a part."""
        return self.recipe.parts[part]

    def _scenes(self, name: str) -> Scenes:
        """Return a scene set by name, rendered or read from the folder."""
        scene_set = next(s for s in self.recipe.scene_sets if s.name == name)
        return training_scenes(self.folder, scene_set, self.workers)

    def images(self, *names: str) -> torch.Tensor:
        """Return the images of scene sets: uint8 (n, 64, 64, 3), on the device."""
        arrays = [self.scenes(name).images for name in names]
        return torch.from_numpy(np.concatenate(arrays)).to(self.device)

    def captions(self, *names: str) -> list[str]:
        """Return the captions of scene sets, in the order of :meth:`images`."""
        return [caption for name in names for caption in self.scenes(name).captions]

    def _examples(self, name: str) -> Examples:
        """Encode the images of a scene set as latents, and its captions as hidden states."""
        from diffusers import AutoencoderKL

        text_encoder, text_tokenizer = text_encoder_from(self.folder / "clip")
        text_encoder.to(self.device)
        vae: Any = AutoencoderKL.from_pretrained(self.folder / "vae").to(self.device)
        return Examples(
            encode_latents(vae, self.images(name)),
            encode_captions(text_encoder, text_tokenizer, self.captions(name)),
            encode_captions(text_encoder, text_tokenizer, [""])[0],
        )

    def features(self, name: str) -> Examples:
        """Return :attr:`examples` with features of the image tokenizer in place of latents."""
        examples = self.examples(name)
        features = encode_features(self.image_tokenizer(), self.images(name))
        return Examples(features, examples.text, examples.empty_text)

    def denoiser(self, part: str) -> Any:
        """Return the trained denoiser of a part, on the device."""
        from diffusers import UNet2DConditionModel

        net = UNet2DConditionModel.from_pretrained(self.folder / part)
        return net.to(self.device, memory_format=torch.channels_last)

    def image_tokenizer(self) -> ImageTokenizer:
        """Return the trained image tokenizer, on the device."""
        image_tokenizer = ImageTokenizer()
        image_tokenizer.load_state_dict(self.load_state("image_tokenizer"))
        return image_tokenizer.to(self.device).eval()

    def save_state(self, part: str, model: torch.nn.Module) -> None:
        """Write the weights of a part that is not a model of diffusers or open_clip."""
        from safetensors.torch import save_file

        state = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
        save_file(state, self.folder / f"{part}.safetensors")

    def load_state(self, part: str) -> dict[str, torch.Tensor]:
        """Return the weights that :meth:`save_state` wrote, by name."""
        from safetensors.torch import load_file

        return load_file(self.folder / f"{part}.safetensors")
