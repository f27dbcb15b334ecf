"""Worker process of a DistriFusion generator.

The worker runs in the environment of the package ``distrifuser``, under torchrun with one process
per GPU, and does not import catimage. Its first process reads requests from standard input and
writes responses to standard output, each as one JSON object per line:

- The first line of output is ``{"ready": true}`` when the pipeline is loaded, or
  ``{"error": MESSAGE}``.
- A request has the keys ``prompt``, ``seed``, ``steps`` and ``guidance``.
- The response to a request is ``{"png": BASE64}`` or ``{"error": MESSAGE}``.

The output of libraries is redirected to standard error.
"""

from __future__ import annotations

import base64
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

Generate = Callable[[dict[str, Any]], Any]
"""A function from a request to a PIL image."""

_MESSAGE_LENGTH = 500


def responses(requests: Iterator[dict[str, Any]], generate: Generate) -> Iterator[dict[str, Any]]:
    """Yield the response to each request. A request that fails does not end the worker."""
    for request in requests:
        try:
            buffer = io.BytesIO()
            generate(request).save(buffer, "PNG")
            yield {"png": base64.b64encode(buffer.getvalue()).decode()}
        except Exception as error:  # the process that sent the request reports the error
            yield {"error": error_line(error)}


def error_line(error: BaseException) -> str:
    """Return the type and the message of an exception as one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:_MESSAGE_LENGTH]}"


def redirect_output() -> TextIO:
    """Redirect standard output to standard error, and return a file for the original output."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return out


def write_line(out: TextIO, response: dict[str, Any]) -> None:
    """Write a response as one line of JSON."""
    out.write(json.dumps(response) + "\n")
    out.flush()


def serve(load: Callable[[], Generate], out: TextIO) -> None:
    """Load the pipeline, and respond to requests until the end of standard input.

    If there are several processes, only the first one reads and writes.
    """
    is_first = int(os.environ.get("RANK", "0")) == 0
    try:
        generate = load()
    except Exception as error:
        if is_first:
            write_line(out, {"error": error_line(error)})
        raise SystemExit(1) from error
    if is_first:
        write_line(out, {"ready": True})
    for response in responses(_requests(is_first), generate):
        if is_first:
            write_line(out, response)


def _requests(is_first: bool) -> Iterator[dict[str, Any]]:
    """Yield the requests in every process, since all of them work on the same image."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield from map(json.loads, sys.stdin)
        return
    import torch.distributed

    while True:
        lines = [sys.stdin.readline() if is_first else ""]
        torch.distributed.broadcast_object_list(lines, src=0)
        if not lines[0]:
            return
        yield json.loads(lines[0])


def load_distrifusion(options: dict[str, Any]) -> Generate:
    """Load the pipeline of ``distrifuser`` from a folder with safetensors files."""
    import diffusers
    import torch

    pipeline = _load_pipeline(options)
    default = pipeline.pipeline.scheduler
    scheduler = getattr(diffusers, options["scheduler"]) if options["scheduler"] else type(default)

    def generate(request: dict[str, Any]) -> Any:
        pipeline.pipeline.scheduler = scheduler.from_config(
            default.config, **options["scheduler_options"]
        )
        return pipeline(
            prompt=request["prompt"],
            generator=torch.Generator().manual_seed(request["seed"]),
            num_inference_steps=request["steps"],
            guidance_scale=request["guidance"],
        ).images[0]

    return generate


def _load_pipeline(options: dict[str, Any]) -> Any:
    import torch
    from distrifuser import pipelines  # type: ignore[import-not-found]
    from distrifuser.utils import DistriConfig  # type: ignore[import-not-found]

    size = options["size"]
    config = DistriConfig(
        height=size, width=size, warmup_steps=options["warmup_steps"], mode=options["mode"]
    )
    if options["pipeline"] == "StableDiffusionPipeline":
        cls, parts = (
            pipelines.DistriSDPipeline,
            {
                "safety_checker": None,
                "requires_safety_checker": False,
            },
        )
    else:
        cls, parts = pipelines.DistriSDXLPipeline, {}
    pipeline = cls.from_pretrained(
        distri_config=config,
        pretrained_model_name_or_path=options["weights"],
        torch_dtype=getattr(torch, options["dtype"]),
        use_safetensors=True,
        local_files_only=True,
        **parts,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


if __name__ == "__main__":
    output = redirect_output()
    serve(lambda: load_distrifusion(json.loads(sys.argv[1])), output)
