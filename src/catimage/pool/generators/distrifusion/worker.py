"""Runs in the environment of the package ``distrifuser``, under torchrun, one process a GPU; knows
nothing of catimage.

The first process reads requests from standard input and writes answers to what was standard output,
both JSON, a line each. It says ``{"ready": true}`` when the pipeline is loaded. A request has
``prompt, seed, steps, guidance``; its answer is ``{"png": BASE64}`` or ``{"error": MESSAGE}``. What
libraries print goes to standard error.
"""

from __future__ import annotations

import base64
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

Draw = Callable[[dict[str, Any]], Any]
"""From a request to a PIL image."""


def answers(requests: Iterator[dict[str, Any]], draw: Draw) -> Iterator[dict[str, Any]]:
    """An answer to each request; a request that fails is answered, and does not end the worker."""
    for request in requests:
        try:
            buffer = io.BytesIO()
            draw(request).save(buffer, "PNG")
            yield {"png": base64.b64encode(buffer.getvalue()).decode()}
        except Exception as error:  # whatever it is, the other side is to know
            yield {"error": said(error)}


def said(error: BaseException) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"


def own_output() -> TextIO:
    """What was standard output, for answers alone; from now on whatever else is printed goes to
    standard error.
    """
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return out


def tell(out: TextIO, answer: dict[str, Any]) -> None:
    """Writes one line."""
    out.write(json.dumps(answer) + "\n")
    out.flush()


def serve(load: Callable[[], Draw], out: TextIO) -> None:
    """Loads, says so, and answers what comes on standard input until it ends. Of several processes,
    the first alone reads and writes.
    """
    first = int(os.environ.get("RANK", "0")) == 0
    try:
        draw = load()
    except Exception as error:
        if first:
            tell(out, {"error": said(error)})
        raise SystemExit(1) from error
    if first:
        tell(out, {"ready": True})
    for answer in answers(_requests(first), draw):
        if first:
            tell(out, answer)


def _requests(first: bool) -> Iterator[dict[str, Any]]:
    """The requests; every process gets each of them, as all work on the same image."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield from map(json.loads, sys.stdin)
        return
    import torch.distributed

    while True:
        shared = [sys.stdin.readline() if first else ""]
        torch.distributed.broadcast_object_list(shared, src=0)
        if not shared[0]:
            return
        yield json.loads(shared[0])


def distrifusion(options: dict[str, Any]) -> Draw:
    """The pipeline of ``distrifuser`` on a folder of weights, of which it takes safetensors alone."""
    import diffusers
    import torch
    from distrifuser import pipelines  # type: ignore[import-not-found]
    from distrifuser.utils import DistriConfig  # type: ignore[import-not-found]

    size = options["size"]
    config = DistriConfig(
        height=size, width=size, warmup_steps=options["warmup_steps"], mode=options["mode"]
    )
    kinds = {
        "StableDiffusionPipeline": pipelines.DistriSDPipeline,
        "StableDiffusionXLPipeline": pipelines.DistriSDXLPipeline,
    }
    without = (
        {"safety_checker": None, "requires_safety_checker": False}
        if options["pipeline"] == "StableDiffusionPipeline"
        else {}
    )
    pipeline = kinds[options["pipeline"]].from_pretrained(
        distri_config=config,
        pretrained_model_name_or_path=options["weights"],
        torch_dtype=getattr(torch, options["dtype"]),
        use_safetensors=True,
        local_files_only=True,
        **without,
    )
    pipeline.set_progress_bar_config(disable=True)
    own = pipeline.pipeline.scheduler
    scheduler = getattr(diffusers, options["scheduler"]) if options["scheduler"] else type(own)

    def draw(request: dict[str, Any]) -> Any:
        pipeline.pipeline.scheduler = scheduler.from_config(
            own.config, **options["scheduler_options"]
        )
        noise = torch.Generator().manual_seed(request["seed"])
        asked = {"num_inference_steps": request["steps"], "guidance_scale": request["guidance"]}
        return pipeline(prompt=request["prompt"], generator=noise, **asked).images[0]

    return draw


if __name__ == "__main__":
    answering = own_output()
    serve(lambda: distrifusion(json.loads(sys.argv[1])), answering)
