"""The worker of distrifusion with a fake pipeline.

The pipeline generates images of one colour. If the prompt contains ``fail``, it raises an error;
with ``die``, the process exits; with ``hang``, it waits. With the mode ``no_sync``, loading fails.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

_SOURCE = (
    Path(__file__).parents[4]
    / "src"
    / "catimage"
    / "pool"
    / "generators"
    / "distrifusion"
    / "worker.py"
)
_SPEC = importlib.util.spec_from_file_location("worker", _SOURCE)
worker = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(worker)


def load() -> Any:
    """Return the function that generates images."""
    options = json.loads(sys.argv[-1])
    if options["mode"] == "no_sync":
        raise RuntimeError("Found no NVIDIA driver on your system.")
    print("output of a library")
    if "WORLD_SIZE" in os.environ:
        import torch

        torch.distributed.init_process_group("gloo")

    def generate(request: dict[str, Any]) -> Image.Image:
        print("output of a pipeline")
        prompt = request["prompt"]
        if "fail" in prompt:
            raise ValueError("CUDA out\nof memory.")
        if "die" in prompt:
            print("end of the log", file=sys.stderr, flush=True)
            os._exit(7)
        if "hang" in prompt:
            time.sleep(60)
        others = int(os.environ.get("WORLD_SIZE", "1")) - 1
        if others:
            import torch

            seed = torch.tensor([request["seed"]])
            torch.distributed.all_reduce(seed)  # every process must have received the request
            assert seed.item() == request["seed"] * (others + 1)
        return Image.new(
            "RGB",
            (options["size"],) * 2,
            (request["seed"], request["steps"], int(10 * request["guidance"])),
        )

    return generate


worker.serve(load, worker.redirect_output())
