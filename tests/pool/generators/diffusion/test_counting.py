"""Counted TFLOPs compared with independent counts.

These are the weights of layers, the closed form of attention, and runs with weights.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from catimage.errors import InputError
from catimage.pool.generators.diffusion.counting import count_costs, run_pipeline
from catimage.pool.generators.diffusion.meta_pipeline import meta_pipeline
from catimage.pool.generators.diffusion.spec import DiffusersSpec
from catimage.pool.kind import CostTerms
from catimage.pool.loading import PACKAGED, load_pool
from catimage.pool.registry import kind_of
from catimage.pool.spec import Pool
from tests.miniature import pool_tree


def _pool(folder: Path, candidates: list[dict[str, Any]] | None = None, **changes: object) -> Pool:
    tree: dict[str, Any] = pool_tree("sd")
    tree["generators"]["mini"].update(changes)
    tree["candidates"] = candidates or tree["candidates"]
    path = folder / f"{abs(hash(str(tree)))}.yaml"
    path.write_text(yaml.safe_dump(tree))
    return load_pool(str(path))


def _terms(pool: Pool, convention: Any = "full") -> list[CostTerms]:
    return kind_of(pool.generators["mini"], pool.folder).count_costs(pool.candidates, convention)


@pytest.fixture(scope="module")
def bare(miniature_pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the configuration files of the miniature pipeline."""
    folder = tmp_path_factory.mktemp("bare")
    shutil.copytree(
        miniature_pool.parent / "sd", folder / "sd", ignore=shutil.ignore_patterns("*.safetensors")
    )
    return folder


class LayerCounter:
    """Counts the operations of a model's linear, convolutional and attention layers.

    A multiply-add is two operations.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        from diffusers.models.attention_processor import Attention

        self.projections, self.products = 0, 0
        for module in model.modules():
            if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
                module.register_forward_hook(self._layer)
            elif isinstance(module, Attention):
                module.register_forward_hook(self._attention, with_kwargs=True)

    def _layer(self, layer: Any, _: Any, out: torch.Tensor) -> None:
        self.projections += 2 * out.numel() * layer.weight[0].numel()

    def _attention(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], _: Any) -> None:
        rows, queries = args[0].shape[:2]
        context = kwargs.get("encoder_hidden_states")
        self.products += (
            rows
            * 4
            * queries
            * (queries if context is None else context.shape[1])
            * layer.inner_dim
        )


def test_full_counts_layers_and_attention_and_paper_counts_layers_only(bare: Path):
    from diffusers import UNet2DConditionModel

    unet: Any = UNet2DConditionModel.from_config(
        UNet2DConditionModel.load_config(bare / "sd" / "unet")
    ).eval()
    counted = LayerCounter(unet)
    with torch.no_grad():
        unet(torch.zeros(2, 6, 16, 16), torch.zeros(()), torch.zeros(2, 40, 128))
    assert counted.products > 0
    pool = _pool(bare)
    assert _terms(pool)[0].denoiser * 1e12 == pytest.approx(
        counted.projections + counted.products, rel=1e-9
    )
    assert _terms(pool, "paper")[0].denoiser * 1e12 == pytest.approx(counted.projections, rel=1e-9)


def test_counts_without_weights_equal_those_of_a_run_with_weights(miniature_pool: Path, bare: Path):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(miniature_pool.parent / "sd")
    pipeline.set_progress_bar_config(disable=True)
    with FlopCounterMode(display=False) as real:
        pipeline("a red ring", num_inference_steps=4, guidance_scale=3.0)
    terms = _terms(_pool(bare))[-1]
    assert (terms.denoiser + terms.text_encoder + terms.decoder) * 1e12 == pytest.approx(
        real.get_total_flops(), rel=1e-9
    )


def test_deepcache_counts_full_and_shallow_calls(miniature_pool: Path, bare: Path):
    from diffusers import StableDiffusionPipeline

    from catimage.pool.generators.diffusion.caching import caching

    cached = _pool(
        bare,
        [
            {
                "candidate": "c",
                "generator": "mini",
                "steps": 7,
                "cache": {"method": "deepcache", "interval": 3},
            }
        ],
    )
    spec = cached.generators["mini"].with_settings_of(cached.candidates[0])
    assert isinstance(spec, DiffusersSpec)
    pipeline = StableDiffusionPipeline.from_pretrained(miniature_pool.parent / "sd")
    pipeline.set_progress_bar_config(disable=True)
    with FlopCounterMode(display=False) as real, caching(spec, pipeline, 7):
        pipeline("a red ring", num_inference_steps=7, guidance_scale=3.0)
    terms = _terms(cached)[0]
    assert (terms.denoiser + terms.text_encoder + terms.decoder) * 1e12 == pytest.approx(
        real.get_total_flops(), rel=1e-9
    )
    plain = _terms(_pool(bare, [{"candidate": "p", "generator": "mini", "steps": 7}]))[0]
    assert plain.denoiser * 3 / 7 < terms.denoiser < plain.denoiser
    assert _terms(cached)[0] == terms, "counting removes the cache"


def test_an_interval_of_one_saves_nothing(bare: Path):
    rows = [
        {
            "candidate": "c",
            "generator": "mini",
            "steps": 4,
            "cache": {"method": "deepcache", "interval": 1},
        }
    ]
    plain = [{"candidate": "p", "generator": "mini", "steps": 4}]
    assert _terms(_pool(bare, rows)) == _terms(_pool(bare, plain))


def test_counting_does_not_change_the_global_random_state(bare: Path):
    before = torch.random.get_rng_state()
    pool = _pool(bare, guidance=2.0)
    _terms(pool)
    assert (torch.random.get_rng_state() == before).all()


def test_a_pipeline_that_cannot_run_on_meta_tensors_is_reported_in_one_line(bare: Path):
    pool = _pool(bare, call={"negative_prompt": 3})
    with pytest.raises(
        InputError,
        match=(
            r"mini\.pipeline: cannot count the TFLOPs of StableDiffusionPipeline \(.*\)\. Give its"
            r" .* 'cost'"
        ),
    ) as caught:
        _terms(pool)
    assert "\n" not in str(caught.value)


def test_a_configuration_folder_and_a_missing_one(bare: Path):
    named = _pool(bare, weights="someone/model", revision="0" * 40, configuration="sd")
    assert _terms(named) == _terms(_pool(bare))
    with pytest.raises(
        InputError,
        match=r"mini\.configuration: there is no .*absent.model_index\.json\. Correct the path",
    ):
        _terms(_pool(bare, configuration="absent"))


def _spec(pool: str, generator: str) -> DiffusersSpec:
    spec = load_pool(pool).generators[generator]
    assert isinstance(spec, DiffusersSpec)
    return spec


def _flux_products() -> float:
    """FLUX.1 at 1024 pixels: 57 blocks of attention over 512 tokens of text and 4096 of image, 3072
    wide.
    """
    return 57 * 4 * (512 + 4096) ** 2 * 3072


def _sdxl_products() -> float:
    """SDXL at 1024 pixels: per pass 10 blocks of 640 over 64x64 and 60 of 1280 over 32x32, with 77
    tokens of text each.
    """
    return sum(
        blocks * 4 * n * (n + 77) * width
        for blocks, n, width in ((10, 4096, 640), (60, 1024, 1280))
    )


PRODUCTS: dict[str, tuple[str, str, int, Callable[[], float]]] = {
    "a transformer": ("flux", "flux-dev", 1, _flux_products),
    "a unet, both passes": ("sdxl", "sdxl", 2, lambda: 2 * _sdxl_products()),
}


@pytest.mark.parametrize(("pool", "generator", "rows", "expected"), PRODUCTS.values(), ids=PRODUCTS)
def test_all_attention_is_counted(
    pool: str, generator: str, rows: int, expected: Callable[[], float]
):
    spec = _spec(pool, generator)
    work = run_pipeline(spec, 2, meta_pipeline(spec, PACKAGED))
    denoiser = [w for part, w in work if part in ("unet", "transformer")]
    assert [w.rows for w in denoiser] == [rows, rows]
    assert denoiser[0].products * 1e12 == pytest.approx(expected(), rel=1e-9)


def test_contexts_have_the_length_that_the_pipeline_pads_to():
    dev, schnell = _spec("flux", "flux-dev"), _spec("flux", "flux-schnell")
    t5 = [
        [
            w
            for part, w in run_pipeline(spec, 2, meta_pipeline(spec, PACKAGED))
            if part == "text_encoder_2"
        ]
        for spec in (dev, schnell)
    ]
    assert t5[0][0].projections == pytest.approx(
        2 * t5[1][0].projections, rel=0.01
    )  # 512 tokens, and 256 in schnell's 'call'
    block = 4 * 4096 * 4096 + 3 * 4096 * 10240
    assert t5[0][0].projections * 1e12 == pytest.approx(24 * 2 * 512 * block, rel=1e-9)


def test_no_candidates_have_no_costs(bare: Path):
    pool = _pool(bare)
    spec = pool.generators["mini"]
    assert isinstance(spec, DiffusersSpec)
    assert count_costs(spec, pool.folder, [], "full") == []
