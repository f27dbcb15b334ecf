"""Throughput of SDXL with random weights: CATImage compared with plain diffusers in one run.

    python -m benchmarks.gpu_sdxl [--miniature] [--device cuda] [--steps 20] [--batches 1 4]

The benchmark needs a GPU with 40 GB of memory and 10 GB of disk space. ``--miniature`` uses a
pipeline of a few thousand parameters, which runs on any machine.

The utilisation is the number of TFLOPs that CATImage computes per second (the counted cost of an
image, convention ``full``, times images per second), divided by the peak of the device. The peak is
the figure of the data sheet or, for devices that are not listed, the measured speed of a large
matrix product.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import yaml
from tests.architectures import SIZE, clip_tokenizer, save_architecture

from catimage.pool.costs import candidate_costs
from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.loading import PACKAGED, load_pool
from catimage.pool.spec import Pool

DENSE_BF16 = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "L4": 121.0}
"""Peak TFLOPs per second of dense bfloat16 products by GPU name, from NVIDIA's data sheets."""
PROMPT, ROUNDS = "a photograph of an astronaut riding a horse on the moon", 3


def save_full_size(folder: Path, device: str) -> None:
    """Save SDXL with its configuration and random bfloat16 weights.

    The weights of the last layer of the denoiser are zero, so that no value overflows.
    """
    import diffusers

    root = PACKAGED / "configurations" / "sdxl"
    index = json.loads((root / "model_index.json").read_text())
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        models = {
            name: _create_model(*index[name], root / name)
            for name in ("unet", "vae", "text_encoder", "text_encoder_2")
        }
    torch.set_default_dtype(torch.float32)
    torch.nn.init.zeros_(models["unet"].conv_out.weight)
    scheduler = diffusers.EulerDiscreteScheduler.from_pretrained(root / "scheduler")
    tokenizers = {
        name: clip_tokenizer(folder / "tokenizers" / name) for name in ("tokenizer", "tokenizer_2")
    }
    pipeline = diffusers.StableDiffusionXLPipeline(**models, scheduler=scheduler, **tokenizers)
    pipeline.save_pretrained(folder)


def _create_model(library: str, name: str, folder: Path) -> Any:
    """Create a model of diffusers or transformers from its configuration, with random weights."""
    model_class = getattr(import_module(library), name)
    if library == "diffusers":
        return model_class.from_config(model_class.load_config(folder)).eval()
    return model_class(model_class.config_class.from_pretrained(folder)).eval()


def create_pool(folder: Path, size: int, steps: int) -> Pool:
    """Write and load a pool with one candidate of the saved pipeline.

    Args:
        folder: the folder of the pipeline.
        size: the height and width of the images in pixels.
        steps: the number of denoising steps.
    """
    settings = {
        "pipeline": "StableDiffusionXLPipeline",
        "weights": folder.name,
        "size": size,
        "guidance": 5.0,
        "dtype": "bfloat16",
    }
    row = {"candidate": f"sdxl-{steps}", "generator": "sdxl", "steps": steps}
    path = folder.parent / "gpu.yaml"
    path.write_text(
        yaml.safe_dump({"name": "gpu", "generators": {"sdxl": settings}, "candidates": [row]})
    )
    return load_pool(str(path))


def diffusers_runner(folder: Path, size: int, steps: int, device: str) -> Callable[[int], Any]:
    """Return a function that generates a batch of images with diffusers only."""
    from diffusers import StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline.from_pretrained(
        folder, dtype=torch.bfloat16, use_safetensors=True
    ).to(device)
    pipeline.set_progress_bar_config(disable=True)
    options = {
        "num_inference_steps": steps,
        "guidance_scale": 5.0,
        "height": size,
        "width": size,
        "output_type": "np",
    }

    def run(batch_size: int) -> Any:
        generators = [torch.Generator().manual_seed(seed) for seed in range(batch_size)]
        return pipeline([PROMPT] * batch_size, generator=generators, **options).images

    return run


def catimage_runner(pool: Pool, device: str) -> Callable[[int], Any]:
    """Return a function that generates a batch of images with CATImage."""
    cache = GeneratorCache(pool, device)
    cache.prepare()
    generator = cache.get("sdxl")
    return lambda batch_size: generator.generate(
        [PROMPT] * batch_size, pool.candidates[0], list(range(batch_size))
    )


def images_per_second(
    runners: dict[str, Callable[[int], Any]], batch_size: int
) -> dict[str, float]:
    """Return the highest throughput in three rounds by runner, after one warm-up round.

    The runners alternate. The measured time includes the transfer of the images to host memory.
    """
    best = dict.fromkeys(runners, 0.0)
    for round_ in range(ROUNDS + 1):
        for name, run in runners.items():
            start = time.perf_counter()
            run(batch_size)
            if round_:
                best[name] = max(best[name], batch_size / (time.perf_counter() - start))
    return best


def peak_speed(device: str) -> tuple[float, str]:
    """Return the peak TFLOPs per second of the device, and the source of the figure."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    for gpu, tflops in DENSE_BF16.items():
        if gpu in name.split():
            return tflops, f"{name}, data sheet"
    n = 8192 if device.startswith("cuda") else 512
    matrix = torch.randn(n, n, device=device, dtype=torch.bfloat16)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        (matrix @ matrix).sum().item()
        times.append(time.perf_counter() - start)
    return 2 * n**3 / min(times) / 1e12, f"{name}, a product of {n} x {n} matrices"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--miniature", action="store_true")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        folder, size = Path(root) / "sdxl", SIZE if arguments.miniature else 1024
        if arguments.miniature:
            save_architecture("sdxl", folder)
        else:
            save_full_size(folder, arguments.device)
        print_table(folder, size, arguments)


def print_table(folder: Path, size: int, arguments: argparse.Namespace) -> None:
    """Measure all batch sizes and print one row of the table for each."""
    steps, device = arguments.steps, arguments.device
    pool = create_pool(folder, size, steps)
    cost, (peak_tflops, source) = float(candidate_costs(pool)["cost"].iloc[0]), peak_speed(device)
    print(
        f"{steps} steps at {size} px, {cost:.3g} TFLOPs per image; peak {peak_tflops:.4g} TFLOPs/s"
        f" ({source})"
    )
    print("| batch | CATImage | utilisation | plain diffusers | ratio |")
    print("|---|---|---|---|---|", flush=True)
    runners = {
        "catimage": catimage_runner(pool, device),
        "diffusers": diffusers_runner(folder, size, steps, device),
    }
    for batch_size in arguments.batches:
        best = images_per_second(runners, batch_size)
        utilisation = f"{best['catimage'] * cost / peak_tflops:.1%}"
        print(
            f"| {batch_size} | {best['catimage']:.3g} images/s | {utilisation} |"
            f" {best['diffusers']:.3g} | {best['catimage'] / best['diffusers']:.2f}x |",
            flush=True,
        )


if __name__ == "__main__":
    main()
