"""A FastAPI service in the style of ``examples/server-async`` of diffusers.

Concurrent requests run in threads. They share the weights: each request has a shallow copy of the
pipeline with its own scheduler, and a lock protects the tokenizer.
"""

from __future__ import annotations

import base64
import copy
import io
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel


class ImagesBody(BaseModel):
    """The body of ``POST /generate``."""

    prompt: str
    steps: int = 4
    guidance: float = 3.0
    n: int = 1
    seed: int = 0


class LockedTokenizer:
    """A tokenizer that one thread at a time may call."""

    def __init__(self, tokenizer: Any, lock: threading.Lock) -> None:
        self.tokenizer, self.lock = tokenizer, lock

    def __call__(self, *args: Any, **options: Any) -> Any:
        with self.lock:
            return self.tokenizer(*args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)


class SharedPipeline:
    """A pipeline whose weights concurrent requests share."""

    def __init__(self, folder: str) -> None:
        import torch
        from diffusers import StableDiffusionPipeline

        self.pipeline: Any = StableDiffusionPipeline.from_pretrained(
            folder, torch_dtype=torch.float32
        )
        self.pipeline.set_progress_bar_config(disable=True)
        self.tokenizer = LockedTokenizer(self.pipeline.tokenizer, threading.Lock())

    def generate(self, body: ImagesBody) -> list[str]:
        """Return base64-encoded PNG images; image i has seed + i."""
        import torch

        view = copy.copy(self.pipeline)
        view.scheduler = copy.deepcopy(self.pipeline.scheduler)
        view.tokenizer = self.tokenizer
        output = view(
            body.prompt,
            num_inference_steps=body.steps,
            guidance_scale=body.guidance,
            num_images_per_prompt=body.n,
            generator=[torch.Generator().manual_seed(body.seed + i) for i in range(body.n)],
        )
        return [encode_png(image) for image in output.images]


def encode_png(image: Any) -> str:
    """Return an image of Pillow as base64-encoded PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load the pipeline at the start."""
    app.state.shared = SharedPipeline(os.environ["PIPELINE_FOLDER"])
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/readyz")
async def readyz() -> dict[str, bool]:
    """Return that the pipeline is loaded."""
    return {"ready": True}


@app.post("/generate")
async def generate(body: ImagesBody, request: Request) -> list[str]:
    """Return the images of a prompt."""
    return await run_in_threadpool(request.app.state.shared.generate, body)
