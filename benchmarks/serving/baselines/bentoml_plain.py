"""A BentoML service without router and batching, as a user would write it."""

import base64
import io
import os

import bentoml


@bentoml.service(name="plain", traffic={"timeout": 300})
class PlainService:
    """One pipeline; BentoML runs one call at a time."""

    def __init__(self) -> None:
        import torch
        from diffusers import StableDiffusionPipeline

        self.pipeline = StableDiffusionPipeline.from_pretrained(
            os.environ["PIPELINE_FOLDER"], torch_dtype=torch.float32
        )
        self.pipeline.set_progress_bar_config(disable=True)

    @bentoml.api
    def generate(
        self, prompt: str, steps: int = 4, guidance: float = 3.0, n: int = 1, seed: int = 0
    ) -> list[str]:
        """Return base64-encoded PNG images; image i has seed + i."""
        import torch

        output = self.pipeline(
            prompt,
            num_inference_steps=steps,
            guidance_scale=guidance,
            num_images_per_prompt=n,
            generator=[torch.Generator().manual_seed(seed + i) for i in range(n)],
        )
        images = []
        for image in output.images:
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            images.append(base64.b64encode(buffer.getvalue()).decode())
        return images
