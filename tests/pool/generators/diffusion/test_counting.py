"""Counted TFLOPs compared with independent counts.

The independent counts are computed from the sizes of layers, from the closed form of attention, and
by runs of pipelines with weights.
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
from catimage.pool.generators.diffusion.counting import count_costs
from catimage.pool.generators.diffusion.meta_pipeline import meta_pipeline
from catimage.pool.generators.diffusion.meta_run import run_pipeline
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
def configuration_folder(miniature_pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the configuration files of the miniature pipeline, without weights."""
    folder = tmp_path_factory.mktemp("configuration")
    shutil.copytree(
        miniature_pool.parent / "sd", folder / "sd", ignore=shutil.ignore_patterns("*.safetensors")
    )
    return folder


class LayerCounter:
    """Counts the operations of a model's linear, convolutional and attention layers.

    A multiply-add counts as two operations.
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


def test_the_convention_full_includes_attention_and_the_convention_paper_does_not(
    configuration_folder: Path,
):
    from diffusers import UNet2DConditionModel

    unet: Any = UNet2DConditionModel.from_config(
        UNet2DConditionModel.load_config(configuration_folder / "sd" / "unet")
    ).eval()
    counter = LayerCounter(unet)
    with torch.no_grad():
        unet(torch.zeros(2, 6, 16, 16), torch.zeros(()), torch.zeros(2, 40, 128))
    assert counter.products > 0
    pool = _pool(configuration_folder)
    assert _terms(pool)[0].denoiser * 1e12 == pytest.approx(
        counter.projections + counter.products, rel=1e-9
    )
    assert _terms(pool, "paper")[0].denoiser * 1e12 == pytest.approx(counter.projections, rel=1e-9)


def test_counts_without_weights_equal_those_of_a_run_with_weights(
    miniature_pool: Path, configuration_folder: Path
):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(miniature_pool.parent / "sd")
    pipeline.set_progress_bar_config(disable=True)
    with FlopCounterMode(display=False) as counter:
        pipeline("a red ring", num_inference_steps=4, guidance_scale=3.0)
    terms = _terms(_pool(configuration_folder))[-1]
    assert (terms.denoiser + terms.text_encoder + terms.decoder) * 1e12 == pytest.approx(
        counter.get_total_flops(), rel=1e-9
    )


def test_deepcache_is_counted_with_full_and_shallow_calls(
    miniature_pool: Path, configuration_folder: Path
):
    from diffusers import StableDiffusionPipeline

    from catimage.pool.generators.diffusion.caching import caching

    cached = _pool(
        configuration_folder,
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
    with FlopCounterMode(display=False) as counter, caching(spec, pipeline, 7):
        pipeline("a red ring", num_inference_steps=7, guidance_scale=3.0)
    terms = _terms(cached)[0]
    assert (terms.denoiser + terms.text_encoder + terms.decoder) * 1e12 == pytest.approx(
        counter.get_total_flops(), rel=1e-9
    )
    plain = _terms(
        _pool(configuration_folder, [{"candidate": "p", "generator": "mini", "steps": 7}])
    )[0]
    assert plain.denoiser * 3 / 7 < terms.denoiser < plain.denoiser
    assert _terms(cached)[0] == terms, "counting must remove the cache"


def test_deepcache_with_interval_one_costs_as_much_as_the_plain_generator(
    configuration_folder: Path,
):
    cached = [
        {
            "candidate": "c",
            "generator": "mini",
            "steps": 4,
            "cache": {"method": "deepcache", "interval": 1},
        }
    ]
    plain = [{"candidate": "p", "generator": "mini", "steps": 4}]
    assert _terms(_pool(configuration_folder, cached)) == _terms(_pool(configuration_folder, plain))


def test_counting_does_not_change_the_global_random_state(configuration_folder: Path):
    before = torch.random.get_rng_state()
    pool = _pool(configuration_folder, guidance=2.0)
    _terms(pool)
    assert (torch.random.get_rng_state() == before).all()


def test_a_pipeline_that_cannot_run_on_meta_tensors_gives_a_one_line_message(
    configuration_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    import diffusers

    def read_values(*_: Any, **__: Any) -> None:
        torch.ones(1, device="meta").item()

    monkeypatch.setattr(diffusers.StableDiffusionPipeline, "check_inputs", read_values)
    pool = _pool(configuration_folder)
    with pytest.raises(
        InputError,
        match=(
            r"mini\.pipeline: cannot compute the TFLOPs of StableDiffusionPipeline \(.*\)\. Give"
            r" its .* 'cost'"
        ),
    ) as caught:
        _terms(pool)
    assert "\n" not in str(caught.value)


def test_costs_are_counted_from_the_configuration_folder_which_must_exist(
    configuration_folder: Path,
):
    pool = _pool(
        configuration_folder, weights="someone/model", revision="0" * 40, configuration="sd"
    )
    assert _terms(pool) == _terms(_pool(configuration_folder))
    with pytest.raises(
        InputError,
        match=r"mini\.configuration: the file .*absent.model_index\.json is not found\. Correct",
    ):
        _terms(_pool(configuration_folder, configuration="absent"))


def _spec(pool: str, generator: str) -> DiffusersSpec:
    spec = load_pool(pool).generators[generator]
    assert isinstance(spec, DiffusersSpec)
    return spec


def _flux_products() -> float:
    """Return the operations of attention in FLUX.1 at 1024 pixels, in one call.

    57 blocks of width 3072 attend over 512 tokens of text and 4096 tokens of the image.
    """
    return 57 * 4 * (512 + 4096) ** 2 * 3072


def _sdxl_products() -> float:
    """Return the operations of attention in SDXL at 1024 pixels, in one pass.

    10 blocks of width 640 attend over 64x64 tokens and 60 blocks of width 1280 over 32x32 tokens.
    All blocks also attend to 77 tokens of text.
    """
    return sum(
        blocks * 4 * n * (n + 77) * width
        for blocks, n, width in ((10, 4096, 640), (60, 1024, 1280))
    )


PRODUCTS: dict[str, tuple[str, str, int, Callable[[], float]]] = {
    "transformer": ("flux", "flux-dev", 1, _flux_products),
    "UNet with two passes": ("sdxl", "sdxl", 2, lambda: 2 * _sdxl_products()),
}


@pytest.mark.system
@pytest.mark.parametrize(("pool", "generator", "rows", "expected"), PRODUCTS.values(), ids=PRODUCTS)
def test_all_attention_is_counted(
    pool: str, generator: str, rows: int, expected: Callable[[], float]
):
    spec = _spec(pool, generator)
    calls = run_pipeline(spec, 2, meta_pipeline(spec, PACKAGED))
    costs = [cost for part, cost in calls if part in ("unet", "transformer")]
    assert [cost.rows for cost in costs] == [rows, rows]
    assert costs[0].products * 1e12 == pytest.approx(expected(), rel=1e-9)


@pytest.mark.system
def test_text_contexts_have_the_length_to_which_the_pipeline_pads():
    dev, schnell = (
        _t5_projections(_spec("flux", generator)) for generator in ("flux-dev", "flux-schnell")
    )
    assert dev == pytest.approx(2 * schnell, rel=0.01), "512 tokens, and 256 in schnell's 'call'"
    weights_per_block = 4 * 4096 * 4096 + 3 * 4096 * 10240
    assert dev * 1e12 == pytest.approx(24 * 2 * 512 * weights_per_block, rel=1e-9)


def _t5_projections(spec: DiffusersSpec) -> float:
    """Return the TFLOPs of the projections of FLUX's text encoder T5 for one image."""
    calls = run_pipeline(spec, 2, meta_pipeline(spec, PACKAGED))
    return next(cost.projections for part, cost in calls if part == "text_encoder_2")


def test_the_costs_of_no_candidates_are_an_empty_list(configuration_folder: Path):
    pool = _pool(configuration_folder)
    spec = pool.generators["mini"]
    assert isinstance(spec, DiffusersSpec)
    assert count_costs(spec, pool.folder, [], "full") == []
