"""SDXL at its true size with random weights: images a second through CATImage and through the plain
diffusers pipeline, in one run.

    python -m benchmarks.gpu_sdxl [--miniature] [--device cuda] [--steps 20] [--batches 1 4]

Needs a GPU with 40 GB and 10 GB of disk; ``--miniature`` runs the same on a pipeline of a few
thousand numbers, anywhere. The share of the peak is the counted cost (full convention) times images
a second, over the card's data sheet or, for cards that are not listed, over what one large matrix
product reaches in the same run.
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
"""TFLOPs a second of dense bfloat16 products on NVIDIA's data sheets, by what the card's name
holds.
"""
PROMPT, ROUNDS = "a photograph of an astronaut riding a horse on the moon", 3


def save_true_size(folder: Path, device: str) -> Path:
    """SDXL of its shipped configuration with random bfloat16 weights. The last layer is zero, so
    that no number overflows.
    """
    import diffusers

    root = PACKAGED / "configurations" / "sdxl"
    index = json.loads((root / "model_index.json").read_text())
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        parts = {
            name: _model(*index[name], root / name)
            for name in ("unet", "vae", "text_encoder", "text_encoder_2")
        }
    torch.set_default_dtype(torch.float32)
    torch.nn.init.zeros_(parts["unet"].conv_out.weight)
    scheduler = diffusers.EulerDiscreteScheduler.from_pretrained(root / "scheduler")
    tokenizers = {
        name: clip_tokenizer(folder / "made" / name) for name in ("tokenizer", "tokenizer_2")
    }
    diffusers.StableDiffusionXLPipeline(**parts, scheduler=scheduler, **tokenizers).save_pretrained(
        folder
    )
    return folder


def _model(library: str, name: str, folder: Path) -> Any:
    cls = getattr(import_module(library), name)
    made = (
        cls.from_config(cls.load_config(folder))
        if library == "diffusers"
        else cls(cls.config_class.from_pretrained(folder))
    )
    return made.eval()


def pool_of(folder: Path, size: int, steps: int) -> Pool:
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


def plain(folder: Path, size: int, steps: int, device: str) -> Callable[[int], Any]:
    """What one would write with diffusers alone."""
    from diffusers import StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline.from_pretrained(
        folder, dtype=torch.bfloat16, use_safetensors=True
    ).to(device)
    pipeline.set_progress_bar_config(disable=True)

    def run(batch: int) -> Any:
        noise = [torch.Generator().manual_seed(seed) for seed in range(batch)]
        options = {
            "num_inference_steps": steps,
            "guidance_scale": 5.0,
            "height": size,
            "width": size,
            "output_type": "np",
        }
        return pipeline([PROMPT] * batch, generator=noise, **options).images

    return run


def ours(pool: Pool, device: str) -> Callable[[int], Any]:
    opened = GeneratorCache(pool, device)
    opened.prepare()
    generator = opened.get("sdxl")
    return lambda batch: generator.generate(
        [PROMPT] * batch, pool.candidates[0], list(range(batch))
    )


def images_per_second(ways: dict[str, Callable[[int], Any]], batch: int) -> dict[str, float]:
    """The best of three rounds after one to warm up, in which the ways take turns; images are on
    the host at the end of each.
    """
    best = dict.fromkeys(ways, 0.0)
    for round_ in range(ROUNDS + 1):
        for name, run in ways.items():
            start = time.perf_counter()
            run(batch)
            if round_:
                best[name] = max(best[name], batch / (time.perf_counter() - start))
    return best


def peak(device: str) -> tuple[float, str]:
    """TFLOPs a second that the device can do, and who says so."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    for card, tflops in DENSE_BF16.items():
        if card in name.split():
            return tflops, f"{name}, data sheet"
    n = 8192 if device.startswith("cuda") else 512
    a = torch.randn(n, n, device=device, dtype=torch.bfloat16)
    spent = []
    for _ in range(5):
        start = time.perf_counter()
        (a @ a).sum().item()
        spent.append(time.perf_counter() - start)
    return 2 * n**3 / min(spent) / 1e12, f"{name}, a product of {n} x {n}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--miniature", action="store_true")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        folder, size = Path(root) / "sdxl", SIZE if asked.miniature else 1024
        save_architecture("sdxl", folder) if asked.miniature else save_true_size(folder, asked.device)
        pool = pool_of(folder, size, asked.steps)
        cost, (most, who) = float(candidate_costs(pool)["cost"].iloc[0]), peak(asked.device)
        print(
            f"{asked.steps} steps at {size} px, {cost:.3g} TFLOPs an image; {most:.4g} TFLOPs/s"
            f" ({who})"
        )
        print(
            "| batch | CATImage | share of the peak | plain diffusers | ratio"
            " |\n|---|---|---|---|---|",
            flush=True,
        )
        ways = {
            "ours": ours(pool, asked.device),
            "plain": plain(folder, size, asked.steps, asked.device),
        }
        for batch in asked.batches:
            best = images_per_second(ways, batch)
            share = f"{best['ours'] * cost / most:.1%}"
            print(
                f"| {batch} | {best['ours']:.3g} images/s | {share} | {best['plain']:.3g} |"
                f" {best['ours'] / best['plain']:.2f}x |",
                flush=True,
            )


if __name__ == "__main__":
    main()
