"""Low-rank adapters: their images, the parts that they do not change, and errors."""

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
from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.generators.diffusion.lora import lora_parts
from catimage.pool.generators.diffusion.spec import DiffusersSpec
from catimage.pool.loading import load_pool
from catimage.pool.registry import kind_of
from catimage.pool.spec import Candidate, Pool
from catimage.stages.package import _copy_pool
from tests.architectures import ARCHITECTURES, SIZE, generator_entry
from tests.pool.generators.diffusion.adapters import FILE, kohya_of, save_adapter

PROMPTS = ["a red ring", "two small stars on blue"]
Weights = Callable[[str], Path]


@pytest.fixture(scope="session")
def adapter(
    architecture_weights: Weights, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """A function from an architecture and options to the folder of its adapter."""
    root = tmp_path_factory.mktemp("adapters")

    def folder(architecture: str, text: bool = False, seed: int = 0) -> Path:
        place = root / f"{architecture}-{text}-{seed}"
        return (
            place
            if place.exists()
            else save_adapter(
                ARCHITECTURES[architecture].pipeline,
                architecture_weights(architecture),
                place,
                text,
                seed,
            )
        )

    return folder


def _pool(folder: Path, base: dict[str, Any], **generators: dict[str, Any]) -> Pool:
    """Return a pool of the plain generator and of others that differ in the given keys."""
    named = {"plain": base, **{name: {**base, **changes} for name, changes in generators.items()}}
    rows = [{"candidate": name, "generator": name, "steps": 4} for name in named]
    (folder / "pool.yaml").write_text(
        yaml.safe_dump({"name": "adapters", "generators": named, "candidates": rows})
    )
    return load_pool(str(folder / "pool.yaml"))


def _base(architecture_weights: Weights, architecture: str = "sd") -> dict[str, Any]:
    return generator_entry(architecture, str(architecture_weights(architecture)))


def _images(cache: GeneratorCache, name: str) -> np.ndarray:
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
    place, base = adapter(architecture, text), _base(architecture_weights, architecture)
    cache = GeneratorCache(
        _pool(tmp_path, base, adapted={"lora": {"weights": str(place), "scale": 0.7}}), "cpu"
    )
    cache.prepare()
    image = _images(cache, "adapted")[1]
    reference = getattr(diffusers, ARCHITECTURES[architecture].pipeline).from_pretrained(
        architecture_weights(architecture)
    )
    reference.load_lora_weights(place, weight_name=FILE, adapter_name="it")
    reference.set_adapters("it", 0.7)
    noise = torch.Generator().manual_seed(8)
    expected = reference(
        PROMPTS[1],
        num_inference_steps=4,
        height=SIZE,
        width=SIZE,
        generator=noise,
        guidance_scale=2.0,
        **base.get("call", {}),
    ).images[0]
    assert np.abs(image.astype(int) - np.asarray(expected)).max() <= 1
    assert np.abs(image.astype(int) - _images(cache, "plain")[1]).max() > 1


def test_the_plain_generator_is_unchanged_by_adapters_of_others(
    architecture_weights: Weights, adapter: Callable[..., Path], tmp_path: Path
):
    text = {"lora": {"weights": str(adapter("sd", text=True))}}
    pool = _pool(
        tmp_path,
        _base(architecture_weights),
        adapted={"lora": {"weights": str(adapter("sd"))}},
        text=text,
    )
    first = _images(GeneratorCache(pool, "cpu"), "plain")
    cache = GeneratorCache(pool, "cpu")
    adapted = _images(cache, "adapted"), _images(cache, "text")
    assert (_images(cache, "plain") == first).all()
    assert all((images != first).mean() > 0.1 for images in adapted)
    plain, unet, both = (cache.get(name).pipeline for name in ("plain", "adapted", "text"))
    assert plain.vae is unet.vae is both.vae and plain.tokenizer is both.tokenizer
    assert plain.text_encoder is unet.text_encoder, "the adapter has no layers for it"
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
    alone = {name: _images(GeneratorCache(pool, "cpu"), name) for name in pool.generators}
    cache = GeneratorCache(pool, "cpu")
    assert all((_images(cache, name) == alone[name]).all() for name in pool.generators)
    one, two, half, parts = (cache.get(name).pipeline for name in ("one", "two", "half", "parts"))
    assert one.unet is two.unet and one.text_encoder is two.text_encoder
    assert len({id(p.unet) for p in (one, half, parts)}) == 3, (
        "with another text encoder, all changed parts are separate"
    )
    cache.release("one")
    assert any(part is two.unet for part in cache.memory.parts.values())
    cache.release("two")
    assert not any(part is two.unet for part in cache.memory.parts.values())


def test_modules_are_plain_after_the_adapter_is_added(
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


def test_a_scale_of_zero_changes_nothing(
    architecture_weights: Weights, adapter: Callable[..., Path], tmp_path: Path
):
    lora = {"weights": str(adapter("sd", text=True)), "scale": 0}
    cache = GeneratorCache(_pool(tmp_path, _base(architecture_weights), none={"lora": lora}), "cpu")
    assert (_images(cache, "none") == _images(cache, "plain")).all()


def test_tensor_names_of_kohyas_scripts(
    architecture_weights: Weights, adapter: Callable[..., Path], tmp_path: Path
):
    lora = {"weights": str(adapter("sd")), "scale": 0.5}
    kohya = {"weights": str(kohya_of(adapter("sd"), tmp_path / "kohya", alpha=1.0))}
    pool = _pool(
        tmp_path, _base(architecture_weights), adapted={"lora": lora}, kohya={"lora": kohya}
    )
    spec = pool.generators["kohya"]
    assert isinstance(spec, DiffusersSpec) and lora_parts(spec, pool.folder) == {"unet"}
    cache = GeneratorCache(pool, "cpu")
    cache.prepare()
    halves = _images(cache, "kohya").astype(int)
    assert np.abs(halves - _images(cache, "adapted")).max() <= 1, "an alpha of half the rank"
    assert np.abs(halves - _images(cache, "plain")).max() > 1


def test_an_adapter_is_added_in_half_precision(
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


def test_a_definition_contains_digest_and_scale_but_no_path(
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


def test_facts_contain_the_revision_and_a_missing_adapter(
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
    assert absent.missing == f"{tmp_path} has no no.safetensors"
    assert (
        hub.revision.endswith(" lora=0123456789ab") and hub.missing == "lora not in the hub's cache"
    )


def test_a_bento_contains_the_adapter(
    architecture_weights: Weights, adapter: Callable[..., Path], tmp_path: Path
):
    lora = {"weights": str(adapter("sd")), "scale": 0.5}
    pool = _pool(
        tmp_path,
        _base(architecture_weights),
        adapted={"lora": lora},
        again={"lora": lora, "guidance": 3.0},
    )
    _copy_pool(tmp_path / "bento", pool)
    staged = load_pool(str(tmp_path / "bento" / "pool.yaml"))
    assert (tmp_path / "bento" / "pool" / "adapted" / "lora.weights" / FILE).is_file()
    for name in pool.generators:
        assert _definition(staged, name) == _definition(pool, name)
        sources = kind_of(staged.generators[name], staged.folder).sources()
        assert all(not Path(source).is_absolute() for source in sources.values())


def _without_lora(folder: Path) -> None:
    save_file({"unet.conv_in.weight": torch.zeros(2)}, folder / FILE)


def _for_another_pipeline(folder: Path) -> None:
    save_file(
        {name.replace("unet.", "transformer."): t for name, t in load_file(folder / FILE).items()},
        folder / FILE,
    )


def _of_another_depth(folder: Path) -> None:
    names = {n: n.replace("unet.", "unet.another.") for n in load_file(folder / FILE)}
    save_file({names[n]: t for n, t in load_file(folder / FILE).items()}, folder / FILE)


def _of_another_width(folder: Path) -> None:
    tensors = load_file(folder / FILE)
    save_file(
        {
            n: torch.cat([t, t], int(n.endswith("A.weight"))).contiguous()
            for n, t in tensors.items()
        },
        folder / FILE,
    )


def _of_another_text_encoder(folder: Path) -> None:
    place = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    save_file(
        load_file(folder / FILE)
        | {
            f"{place}.lora_A.weight": torch.ones(2, 24),
            f"{place}.lora_B.weight": torch.ones(24, 2),
        },
        folder / FILE,
    )


def _damaged(folder: Path) -> None:
    (folder / FILE).write_bytes((folder / FILE).read_bytes()[:1000])


def _pickled(folder: Path) -> None:
    (folder / FILE).rename(folder / "pytorch_lora_weights.bin")


BAD: dict[str, tuple[Callable[[Path], Any], dict[str, Any], str]] = {
    "no folder": (
        lambda _: None,
        {"weights": "nowhere"},
        r"\.lora\.weights: there is no folder .*nowhere\. Put the weights there or",
    ),
    "no file": (
        lambda _: None,
        {"file": "other.safetensors"},
        r"\.lora\.file: there is no file .*other\.safetensors",
    ),
    "only a pickle": (
        _pickled,
        {},
        r"\.lora\.file: there is no file .*pytorch_lora_weights\.safetensors",
    ),
    "a pickle named in the pool": (
        _pickled,
        {"file": "pytorch_lora_weights.bin"},
        r"\.lora\.file: 'pytorch_lora_weights\.bin' is not a safetensors file\. Convert it",
    ),
    "damaged": (_damaged, {}, r"\.lora: .*pytorch_lora_weights\.safetensors is damaged"),
    "not an adapter": (
        _without_lora,
        {},
        r"\.lora: .*safetensors is not a low-rank adapter: none of its tensors has 'lora' in its",
    ),
    "another pipeline": (
        _for_another_pipeline,
        {},
        r"\.lora: .*safetensors does not fit .*: it has no layers for any part",
    ),
    "another depth": (
        _of_another_depth,
        {},
        r"\.lora: .*safetensors does not fit StableDiffusionPipeline",
    ),
    "another width": (
        _of_another_width,
        {},
        r"safetensors does not fit StableDiffusionPipeline with these weights \(size mismatch",
    ),
    "another text encoder": (
        _of_another_text_encoder,
        {},
        r"\.lora: .*safetensors does not fit StableDiffusionPipeline with these weights",
    ),
}


@pytest.mark.parametrize("before_loading", [True, False], ids=["before a run", "when it is cache"])
@pytest.mark.parametrize(("damage", "changes", "message"), BAD.values(), ids=BAD)
def test_invalid_adapters_are_reported_in_one_line(
    damage: Callable[[Path], Any],
    changes: dict[str, Any],
    message: str,
    before_loading: bool,
    architecture_weights: Weights,
    adapter: Callable[..., Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / FILE).write_bytes((adapter("sd") / FILE).read_bytes())
    damage(tmp_path / "own")
    cache = GeneratorCache(
        _pool(
            tmp_path, _base(architecture_weights), adapted={"lora": {"weights": "own", **changes}}
        ),
        "cpu",
    )
    with pytest.raises(InputError, match=message) as caught:
        cache.prepare() if before_loading else cache.get("adapted")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 800
    assert "generators.adapted.lora" in str(caught.value)
    assert not [record for record in caplog.records if record.name.startswith("diffusers")]


def test_weights_that_are_not_finite_are_refused(
    architecture_weights: Weights, adapter: Callable[..., Path], tmp_path: Path
):
    (tmp_path / "own").mkdir()
    save_file(
        {n: t * torch.inf for n, t in load_file(adapter("sd") / FILE).items()},
        tmp_path / "own" / FILE,
    )
    cache = GeneratorCache(
        _pool(tmp_path, _base(architecture_weights), adapted={"lora": {"weights": "own"}}), "cpu"
    )
    with pytest.raises(
        InputError, match=r"\.lora: .*safetensors cannot be added in float32 \(NaNs? detected"
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
