import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

from catimage.errors import InputError
from catimage.pool.costs import candidate_costs
from catimage.pool.diffusion.counting import count_flops, count_parts, count_projections
from catimage.pool.pool import Pool, load_pool
from tests.miniature import STEPS, pool_tree


@pytest.fixture(scope="module")
def bare_pool(miniature_pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature pool without any weights."""
    folder = tmp_path_factory.mktemp("bare")
    shutil.copytree(miniature_pool.parent / "sd", folder / "sd", ignore=shutil.ignore_patterns("*.safetensors"))
    return folder


def _pool(folder: Path, candidates: list[dict[str, Any]] | None = None, costs: str = "counted", **changes: object) -> Pool:
    tree: dict[str, Any] = pool_tree("sd")
    tree["generators"]["mini"].update(changes)
    tree.update({"costs": costs, "candidates": candidates or tree["candidates"]})
    path = folder / f"{abs(hash(str(tree)))}.yaml"
    path.write_text(yaml.safe_dump(tree))
    return load_pool(str(path))


def test_costs_add_up_and_grow_with_steps(bare_pool: Path):
    rows = candidate_costs(_pool(bare_pool))
    assert rows["candidate"].tolist() == [f"mini-{n}" for n in STEPS]
    assert set(rows["unit"]) == {"tflops"}
    pd.testing.assert_series_equal(rows["cost"], rows[["denoiser", "text_encoder", "decoder"]].sum(axis=1), check_names=False)
    assert rows["denoiser_calls"].tolist() == list(STEPS)
    assert (rows["denoiser"] / rows["steps"]).nunique() == 1
    per_call = rows["denoiser"][0] / 2
    assert per_call < 0.0003, "the tiny denoiser is to take at most 0.3 GFLOP a forward pass"


def test_guidance_doubles_denoiser_and_text_encoder(bare_pool: Path):
    guided, plain = candidate_costs(_pool(bare_pool)), candidate_costs(_pool(bare_pool, guidance=1.0))
    assert (guided["denoiser"] == 2 * plain["denoiser"]).all()
    assert (guided["text_encoder"] == 2 * plain["text_encoder"]).all()
    assert (guided["decoder"] == plain["decoder"]).all()


def test_a_scheduler_of_second_order_calls_the_denoiser_oftener(bare_pool: Path):
    rows = candidate_costs(_pool(bare_pool, scheduler="HeunDiscreteScheduler"))
    assert rows["denoiser_calls"].tolist() == [2 * n - 1 for n in STEPS]


def test_full_is_projections_and_the_products_of_attention(bare_pool: Path):
    """An independent count: layers by their weights, attention by its closed form 2 * 2 * queries * keys * width."""
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import Attention

    unet: Any = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(bare_pool / "sd" / "unet")).eval()
    products = []

    def attended(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], _: Any) -> None:
        queries = args[0].shape[1]
        context = kwargs.get("encoder_hidden_states")
        products.append(4 * queries * (queries if context is None else context.shape[1]) * layer.inner_dim)

    for module in unet.modules():
        if isinstance(module, Attention):
            module.register_forward_hook(attended, with_kwargs=True)
    inputs = (torch.zeros(1, 6, 16, 16), torch.zeros(()), torch.zeros(1, 40, 128))
    with torch.no_grad():
        projections = count_projections(unet, *inputs)
        layers = sum(products)
        counted = count_flops(unet, *inputs)
    assert layers > 0
    assert counted * 1e12 == pytest.approx(projections * 1e12 + layers, rel=1e-9)
    spec = _pool(bare_pool).generators["mini"]
    assert count_parts(spec, bare_pool).denoiser == counted
    assert count_parts(spec, bare_pool, "paper").denoiser == projections


SDXL = {
    "sample_size": 128, "in_channels": 4, "out_channels": 4, "block_out_channels": (320, 640, 1280), "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20], "cross_attention_dim": 2048, "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816, "use_linear_projection": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def sdxl(bare_pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configuration files with SDXL's denoiser and context length; the other parts do not count in the paper's convention."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig

    folder = tmp_path_factory.mktemp("sdxl")
    shutil.copytree(bare_pool / "sd", folder / "sd")
    with torch.device("meta"):
        UNet2DConditionModel(**SDXL).save_config(folder / "sd" / "unet")
    CLIPTextConfig(max_position_embeddings=77, num_hidden_layers=1).save_pretrained(folder / "sd" / "text_encoder")
    vae = folder / "sd" / "vae" / "config.json"
    blocks = {"block_out_channels": [8] * 4, "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
    vae.write_text(json.dumps(json.loads(vae.read_text()) | blocks))  # eight pixels a latent, as SDXL has
    return folder


PAPER = [(1024, 5.0, {9: 107.73, 22: 263.34, 65: 778.05, 100: 1197.0}), (1024, 1.0, {4: 23.92}), (512, 1.0, {1: 1.54})]
"""CATImage's Tables 1 and 2: SDXL by steps, Lightning (four steps, no guidance), Turbo (one step at 512 pixels)."""


@pytest.mark.parametrize(("size", "guidance", "tflops"), PAPER)
def test_the_papers_convention_gives_the_papers_costs(sdxl: Path, size: int, guidance: float, tflops: dict[int, float]):
    candidates = [{"candidate": f"x{n}", "generator": "mini", "steps": n} for n in tflops]
    pool = _pool(sdxl, candidates, size=size, guidance=guidance)
    assert candidate_costs(pool, "paper")["cost"].tolist() == pytest.approx(list(tflops.values()), rel=0.005)


def test_explicit_costs_are_kept(bare_pool: Path):
    given = [
        {"candidate": "a", "generator": "mini", "steps": 1, "cost": 7.0},
        {"candidate": "b", "generator": "mini", "steps": 2, "cost": 0.04, "unit": "usd"},
    ]
    mixed = candidate_costs(_pool(bare_pool, given))
    assert mixed["unit"].tolist() == ["tflops", "tflops"]
    assert mixed["cost"][0] == 7.0
    assert mixed["cost"][1] < 0.01
    explicit = candidate_costs(_pool(bare_pool, given, costs="explicit"))
    assert list(zip(explicit["cost"], explicit["unit"], strict=True)) == [(7.0, "tflops"), (0.04, "usd")]
    assert explicit["denoiser"].isna().all()


def test_a_pipeline_without_a_unet_is_refused(bare_pool: Path, tmp_path: Path):
    (tmp_path / "sd").mkdir()
    (tmp_path / "sd" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline", "vae": ["diffusers", "AutoencoderKL"]}')
    with pytest.raises(
        InputError, match=r"generators\.mini\.pipeline: cannot count the TFLOPs of StableDiffusionPipeline, which has no unet"
    ):
        candidate_costs(_pool(tmp_path))
