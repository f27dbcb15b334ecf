"""Low-rank adapters: images, parts that generators share, and errors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from catimage.errors import InputError
from catimage.pool.copying import copy_pool
from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.generators.diffusion.lora import lora_parts
from catimage.pool.generators.diffusion.spec import DiffusersSpec
from catimage.pool.loading import load_pool
from catimage.pool.registry import kind_of
from catimage.pool.spec import Candidate, Pool
from tests.architectures import ARCHITECTURES, SIZE, generator_entry
from tests.pool.generators.diffusion.adapters import FILE, save_adapter, save_kohya_adapter

PROMPTS = ["a red ring", "two small stars on blue"]
Weights = Callable[[str], Path]


@pytest.fixture(scope="session")
def adapter(
    architecture_weights: Weights, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """A function that returns the folder of an adapter, which is saved on the first call.

    Its arguments are the name of the architecture and two options of :func:`save_adapter`.
    """
    root = tmp_path_factory.mktemp("adapters")

    def folder(architecture: str, text: bool = False, seed: int = 0) -> Path:
        path = root / f"{architecture}-{text}-{seed}"
        if path.exists():
            return path
        pipeline, weights = ARCHITECTURES[architecture].pipeline, architecture_weights(architecture)
        return save_adapter(pipeline, weights, path, text, seed)

    return folder


def _pool(folder: Path, base: dict[str, Any], **generators: dict[str, Any]) -> Pool:
    """Return a pool with the generator ``plain`` and with generators that differ in some keys.

    Every generator has one candidate, of four steps, with the name of the generator.
    """
    entries = {"plain": base, **{name: {**base, **changes} for name, changes in generators.items()}}
    rows = [{"candidate": name, "generator": name, "steps": 4} for name in entries]
    (folder / "pool.yaml").write_text(
        yaml.safe_dump({"name": "adapters", "generators": entries, "candidates": rows})
    )
    return load_pool(str(folder / "pool.yaml"))


def _base(architecture_weights: Weights, architecture: str = "sd") -> dict[str, Any]:
    """Return the entry of a generator without adapter."""
    return generator_entry(architecture, str(architecture_weights(architecture)))


def _images(cache: GeneratorCache, name: str) -> np.ndarray:
    """Return the images of the candidate of a generator for all prompts."""
    return cache.get(name).generate(PROMPTS, cache.pool.candidate(name), [7, 8])


@pytest.mark.parametrize(
    ("architecture", "text"),
    [
        ("sd", False),
        ("sd", True),
        ("sdxl", False),
        ("sdxl", True),
        ("flux", False),
        ("z-image", False),
    ],
)
def test_images_equal_those_of_diffusers_with_the_adapter(
    architecture: str,
    text: bool,
    architecture_weights: Weights,
    adapter: Callable[..., Path],
    tmp_path: Path,
):
    folder, base = adapter(architecture, text), _base(architecture_weights, architecture)
    cache = GeneratorCache(
        _pool(tmp_path, base, adapted={"lora": {"weights": str(folder), "scale": 0.7}}), "cpu"
    )
    cache.prepare()
    image = _images(cache, "adapted")[1]
    reference = getattr(diffusers, ARCHITECTURES[architecture].pipeline).from_pretrained(
        architecture_weights(architecture)
    )
    reference.load_lora_weights(folder, weight_name=FILE, adapter_name="tested")
    reference.set_adapters("tested", 0.7)
    random_generator = torch.Generator().manual_seed(8)
    expected = reference(
        PROMPTS[1],
        num_inference_steps=4,
        height=SIZE,
        width=SIZE,
        generator=random_generator,
        guidance_scale=2.0,
        **base.get("call", {}),
    ).images[0]
    assert np.abs(image.astype(int) - np.asarray(expected)).max() <= 1
    assert np.abs(image.astype(int) - _images(cache, "plain")[1]).max() > 1


def test_adapters_of_other_generators_do_not_change_the_plain_generator(
    architecture_weights: Weights, adapter: Callable[..., Path], tmp_path: Path
):
    text_adapter = {"lora": {"weights": str(adapter("sd", text=True))}}
    pool = _pool(
        tmp_path,
        _base(architecture_weights),
        adapted={"lora": {"weights": str(adapter("sd"))}},
        text=text_adapter,
    )
    first = _images(GeneratorCache(pool, "cpu"), "plain")
    cache = GeneratorCache(pool, "cpu")
    adapted = _images(cache, "adapted"), _images(cache, "text")
    assert (_images(cache, "plain") == first).all()
    assert all((images != first).mean() > 0.1 for images in adapted)
    plain, unet, both = (cache.get(name).pipeline for name in ("plain", "adapted", "text"))
    assert plain.vae is unet.vae is both.vae and plain.tokenizer is both.tokenizer
    assert plain.text_encoder is unet.text_encoder, "the adapter does not change the text encoder"
    assert (
        len({id(p.unet) for p in (plain, unet, both)}) == 3
        and plain.text_encoder is not both.text_encoder
    )


def test_generators_with_the_same_adapter_share_the_changed_parts(
    architecture_weights: Weights, adapter: Callable[..., Path], tmp_path: Path
):
    lora = {"weights": str(adapter("sd", text=True))}
    other = {
        "text_encoder": {"weights": str(architecture_weights("sd2")), "subfolder": "text_encoder"}
    }
    changes = {
        "one": {"lora": lora},
        "two": {"lora": lora, "guidance": 3.0},
        "half": {"lora": {**lora, "scale": 0.5}},
    }
    pool = _pool(
        tmp_path, _base(architecture_weights), **changes, parts={"lora": lora, "parts": other}
    )
    expected = {name: _images(GeneratorCache(pool, "cpu"), name) for name in pool.generators}
    cache = GeneratorCache(pool, "cpu")
    assert all((_images(cache, name) == expected[name]).all() for name in pool.generators)
    one, two, half, parts = (cache.get(name).pipeline for name in ("one", "two", "half", "parts"))
    assert one.unet is two.unet and one.text_encoder is two.text_encoder
    assert len({id(p.unet) for p in (one, half, parts)}) == 3, (
        "generators with different text encoders or scales must not share changed parts"
    )
    cache.release("one")
    assert any(part is two.unet for part in cache.memory.parts.values())
    cache.release("two")
    assert not any(part is two.unet for part in cache.memory.parts.values())


def test_modules_have_no_layers_of_the_adapter_after_it_is_fused(
    architecture_weights: Weights, adapter: Callable[..., Path], tmp_path: Path
):
    lora = {"weights": str(adapter("sd", text=True))}
    cache = GeneratorCache(
        _pool(tmp_path, _base(architecture_weights), adapted={"lora": lora}), "cpu"
    )
    for part in ("unet", "text_encoder"):
        plain, adapted = (getattr(cache.get(name).pipeline, part) for name in ("plain", "adapted"))
        assert [(n, type(m)) for n, m in plain.named_modules()] == [
            (n, type(m)) for n, m in adapted.named_modules()
        ]
        assert plain.state_dict().keys() == adapted.state_dict().keys()
    cached = Candidate.model_validate(
        {
            "candidate": "c",
            "generator": "adapted",
            "steps": 4,
            "cache": {"method": "deepcache", "interval": 2},
        }
    )
    assert cache.get("adapted").generate(PROMPTS, cached, [7, 8]).shape == (2, SIZE, SIZE, 3)


def test_an_adapter_with_scale_zero_does_not_change_images(
    architecture_weights: Weights, adapter: Callable[..., Path], tmp_path: Path
):
    lora = {"weights": str(adapter("sd", text=True)), "scale": 0}
    cache = GeneratorCache(
        _pool(tmp_path, _base(architecture_weights), scaled={"lora": lora}), "cpu"
    )
    assert (_images(cache, "scaled") == _images(cache, "plain")).all()


def test_adapters_with_the_tensor_names_of_kohyas_scripts_are_supported(
    architecture_weights: Weights, adapter: Callable[..., Path], tmp_path: Path
):
    lora = {"weights": str(adapter("sd")), "scale": 0.5}
    kohya = {"weights": str(save_kohya_adapter(adapter("sd"), tmp_path / "kohya", alpha=1.0))}
    pool = _pool(
        tmp_path, _base(architecture_weights), adapted={"lora": lora}, kohya={"lora": kohya}
    )
    spec = pool.generators["kohya"]
    assert isinstance(spec, DiffusersSpec) and lora_parts(spec, pool.folder) == {"unet"}
    cache = GeneratorCache(pool, "cpu")
    cache.prepare()
    images = _images(cache, "kohya").astype(int)
    assert np.abs(images - _images(cache, "adapted")).max() <= 1, (
        "an alpha of half the rank must have the effect of the scale 0.5"
    )
    assert np.abs(images - _images(cache, "plain")).max() > 1


def test_an_adapter_is_fused_in_half_precision(
    architecture_weights: Weights, adapter: Callable[..., Path], tmp_path: Path
):
    base = {**_base(architecture_weights, "sdxl"), "dtype": "bfloat16"}
    cache = GeneratorCache(
        _pool(tmp_path, base, adapted={"lora": {"weights": str(adapter("sdxl"))}}), "cpu"
    )
    assert (_images(cache, "adapted") != _images(cache, "plain")).mean() > 0.1
    assert {p.dtype for p in cache.get("adapted").pipeline.unet.parameters()} == {torch.bfloat16}


def _definition(pool: Pool, name: str = "adapted") -> dict[str, Any]:
    spec = pool.generators[name]
    return spec.definition(pool.candidate(name), kind_of(spec, pool.folder).identity())


def test_a_definition_contains_the_digest_and_the_scale_of_the_adapter_but_no_path(
    architecture_weights: Weights, adapter: Callable[..., Path], tmp_path: Path
):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / FILE).write_bytes((adapter("sd", seed=seed) / FILE).read_bytes())
    (tmp_path / "b" / "another.safetensors").write_bytes(b"another file")
    changes = {name: {"lora": {"weights": name}} for name in "abc"} | {
        "d": {"lora": {"weights": "a", "scale": 0.5}}
    }
    changes |= {
        "hub": {
            "lora": {"weights": "someone/style", "revision": "abc123", "file": "style.safetensors"}
        }
    }
    pool = _pool(tmp_path, _base(architecture_weights), **changes)
    a, b, c, d, plain, hub = (
        _definition(pool, name) for name in ("a", "b", "c", "d", "plain", "hub")
    )
    assert a == b
    assert len({yaml.safe_dump(x) for x in (a, c, d, plain, hub)}) == 5
    assert "lora" not in plain
    assert hub["lora"] == {"weights": "someone/style@abc123 style.safetensors", "scale": 1.0}


def test_facts_contain_the_revision_of_the_adapter_and_missing_files(
    architecture_weights: Weights, adapter: Callable[..., Path], tmp_path: Path
):
    changes = {
        "present": {"lora": {"weights": str(adapter("sd"))}},
        "absent": {"lora": {"weights": str(tmp_path), "file": "no.safetensors"}},
    }
    changes["hub"] = {"lora": {"weights": "someone/style", "revision": "0123456789abcdef"}}
    pool = _pool(tmp_path, _base(architecture_weights), **changes)
    present, absent, hub = (
        kind_of(pool.generators[name], tmp_path).facts() for name in ("present", "absent", "hub")
    )
    assert " lora=" in present.revision and present.missing == ""
    assert absent.missing == f"no.safetensors not found in {tmp_path}"
    assert (
        hub.revision.endswith(" lora=0123456789ab") and hub.missing == "lora not in the hub's cache"
    )


def test_a_packaged_pool_contains_the_adapter(
    architecture_weights: Weights, adapter: Callable[..., Path], tmp_path: Path
):
    lora = {"weights": str(adapter("sd")), "scale": 0.5}
    pool = _pool(
        tmp_path,
        _base(architecture_weights),
        adapted={"lora": lora},
        guided={"lora": lora, "guidance": 3.0},
    )
    copy_pool(pool, tmp_path / "bento")
    packaged = load_pool(str(tmp_path / "bento" / "pool.yaml"))
    assert (tmp_path / "bento" / "pool" / "adapted" / "lora.weights" / FILE).is_file()
    for name in pool.generators:
        assert _definition(packaged, name) == _definition(pool, name)
        sources = kind_of(packaged.generators[name], packaged.folder).sources()
        assert all(not Path(source).is_absolute() for source in sources.values())


def _save_tensors_that_are_not_an_adapter(folder: Path) -> None:
    save_file({"unet.conv_in.weight": torch.zeros(2)}, folder / FILE)


def _save_adapter_of_another_pipeline(folder: Path) -> None:
    save_file(
        {name.replace("unet.", "transformer."): t for name, t in load_file(folder / FILE).items()},
        folder / FILE,
    )


def _save_adapter_of_another_depth(folder: Path) -> None:
    names = {n: n.replace("unet.", "unet.another.") for n in load_file(folder / FILE)}
    save_file({names[n]: t for n, t in load_file(folder / FILE).items()}, folder / FILE)


def _save_adapter_of_another_width(folder: Path) -> None:
    tensors = load_file(folder / FILE)
    save_file(
        {
            n: torch.cat([t, t], int(n.endswith("A.weight"))).contiguous()
            for n, t in tensors.items()
        },
        folder / FILE,
    )


def _save_adapter_of_another_text_encoder(folder: Path) -> None:
    layer = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    save_file(
        load_file(folder / FILE)
        | {
            f"{layer}.lora_A.weight": torch.ones(2, 24),
            f"{layer}.lora_B.weight": torch.ones(24, 2),
        },
        folder / FILE,
    )


def _truncate_file(folder: Path) -> None:
    (folder / FILE).write_bytes((folder / FILE).read_bytes()[:1000])


def _rename_to_pickle(folder: Path) -> None:
    (folder / FILE).rename(folder / "pytorch_lora_weights.bin")


INVALID_ADAPTERS: dict[str, tuple[Callable[[Path], Any], dict[str, Any], str]] = {
    "no folder": (
        lambda _: None,
        {"weights": "nowhere"},
        r"\.lora\.weights: the folder .*nowhere is not found\. Put the weights there or",
    ),
    "no file": (
        lambda _: None,
        {"file": "other.safetensors"},
        r"\.lora\.file: the file .*other\.safetensors is not found",
    ),
    "a pickle instead of a safetensors file": (
        _rename_to_pickle,
        {},
        r"\.lora\.file: the file .*pytorch_lora_weights\.safetensors is not found",
    ),
    "a pickle named in the pool": (
        _rename_to_pickle,
        {"file": "pytorch_lora_weights.bin"},
        r"\.lora\.file: 'pytorch_lora_weights\.bin' is not a safetensors file\. Convert it",
    ),
    "damaged file": (_truncate_file, {}, r"\.lora: .*pytorch_lora_weights\.safetensors is damaged"),
    "not an adapter": (
        _save_tensors_that_are_not_an_adapter,
        {},
        r"\.lora: .*safetensors is not a low-rank adapter: none of its tensors has 'lora' in its",
    ),
    "another pipeline": (
        _save_adapter_of_another_pipeline,
        {},
        r"\.lora: .*safetensors does not fit .*: it has no layers for any part",
    ),
    "another depth": (
        _save_adapter_of_another_depth,
        {},
        r"\.lora: .*safetensors does not fit StableDiffusionPipeline",
    ),
    "another width": (
        _save_adapter_of_another_width,
        {},
        r"safetensors does not fit StableDiffusionPipeline with these weights \(size mismatch",
    ),
    "another text encoder": (
        _save_adapter_of_another_text_encoder,
        {},
        r"\.lora: .*safetensors does not fit StableDiffusionPipeline with these weights",
    ),
}


@pytest.mark.parametrize("before_loading", [True, False], ids=["before a run", "while loading"])
@pytest.mark.parametrize(
    ("change_file", "changes", "message"), INVALID_ADAPTERS.values(), ids=INVALID_ADAPTERS
)
def test_invalid_adapters_give_a_one_line_message(
    change_file: Callable[[Path], Any],
    changes: dict[str, Any],
    message: str,
    before_loading: bool,
    architecture_weights: Weights,
    adapter: Callable[..., Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    (tmp_path / "changed").mkdir()
    (tmp_path / "changed" / FILE).write_bytes((adapter("sd") / FILE).read_bytes())
    change_file(tmp_path / "changed")
    cache = GeneratorCache(
        _pool(
            tmp_path,
            _base(architecture_weights),
            adapted={"lora": {"weights": "changed", **changes}},
        ),
        "cpu",
    )
    with pytest.raises(InputError, match=message) as caught:
        cache.prepare() if before_loading else cache.get("adapted")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 800
    assert "generators.adapted.lora" in str(caught.value)
    assert not [record for record in caplog.records if record.name.startswith("diffusers")]


def test_an_adapter_with_infinite_weights_is_refused(
    architecture_weights: Weights, adapter: Callable[..., Path], tmp_path: Path
):
    (tmp_path / "changed").mkdir()
    save_file(
        {n: t * torch.inf for n, t in load_file(adapter("sd") / FILE).items()},
        tmp_path / "changed" / FILE,
    )
    cache = GeneratorCache(
        _pool(tmp_path, _base(architecture_weights), adapted={"lora": {"weights": "changed"}}),
        "cpu",
    )
    with pytest.raises(
        InputError, match=r"\.lora: .*safetensors cannot be fused in float32 \(NaNs? detected"
    ):
        cache.get("adapted")


def test_a_pipeline_without_support_for_adapters_is_reported(
    architecture_weights: Weights, adapter: Callable[..., Path], tmp_path: Path
):
    changes = {"pipeline": "DDPMPipeline", "lora": {"weights": str(adapter("sd"))}}
    pool = _pool(tmp_path, _base(architecture_weights), adapted=changes)
    spec = pool.generators["adapted"]
    assert isinstance(spec, DiffusersSpec)
    with pytest.raises(
        InputError, match=r"\.lora: DDPMPipeline does not support adapters\. Remove 'lora'"
    ):
        lora_parts(spec, tmp_path)
