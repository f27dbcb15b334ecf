"""Parts that a model_index.json names by a pipeline's module: the safety checker, ChatGLM."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from catimage.commands.pool_check import check_rows
from catimage.data.prompts.identity import prompt_id
from catimage.data.schema import SCORES, read_table
from catimage.data.shards.manifest import read_manifest
from catimage.data.shards.store import decode_image, read_shard
from catimage.errors import InputError
from catimage.params import LabelParams
from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.loading import PACKAGED, load_pool
from catimage.pool.refusal import RefusedImages
from catimage.pool.spec import Pool
from catimage.stages import generate, label
from catimage.workspace import Workspace
from tests.miniature import workspace_of
from tests.pool.generators.diffusion.conftest import MakePool

PROMPTS = ["a red ring", "an empty white wall", "two small stars on a blue background"]


def _change_index(folder: Path, **entries: Any) -> None:
    file = folder / "model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def _write_pool(folder: Path, **changes: Any) -> Pool:
    """Write a pool with a generator of the weights in the folder ``sd``."""
    generator = {"weights": "sd", "size": 64, "guidance": 3.0, **changes}
    candidates = [{"candidate": f"sd-{n}", "generator": "sd", "steps": n} for n in (1, 2)]
    tree = {"name": "checked", "generators": {"sd": generator}, "candidates": candidates}
    (folder / "checked.yaml").write_text(yaml.safe_dump(tree))
    return load_pool(str(folder / "checked.yaml"))


@pytest.fixture
def checked_weights(tmp_path: Path) -> Path:
    """The embedded model with a safety checker with random weights, which flags no image."""
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    folder = tmp_path / "sd"
    shutil.copytree(PACKAGED / "tiny" / "sd", folder)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
    vision = {**sizes, "num_hidden_layers": 1, "image_size": 32, "patch_size": 16}
    text = {**sizes, "num_hidden_layers": 1}
    torch.manual_seed(0)
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    checker = StableDiffusionSafetyChecker(config)
    checker.concept_embeds_weights.data.fill_(2.0)  # no cosine exceeds this threshold
    checker.special_care_embeds_weights.data.fill_(2.0)
    checker.save_pretrained(folder / "safety_checker")
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
    processor.save_pretrained(folder / "feature_extractor")
    _change_index(
        folder,
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
        feature_extractor=["transformers", "CLIPImageProcessor"],
    )
    return folder


def _flag_images(folder: Path, threshold: float) -> None:
    """Set the cosine above which the safety checker flags an image."""
    from safetensors.torch import load_file, save_file

    file = folder / "safety_checker" / "model.safetensors"
    state = load_file(file)
    state["concept_embeds_weights"].fill_(threshold)
    save_file(state, file, metadata={"format": "pt"})


def test_weights_with_a_safety_checker_are_checked_counted_and_run(
    checked_weights: Path, tmp_path: Path
):
    pool = _write_pool(tmp_path)
    rows = check_rows(str(pool.file), None)
    assert [(row["problem"], row["weights"]) for row in rows] == [("", "available")] * 2
    cache = GeneratorCache(pool, "cpu")
    cache.prepare()
    generator: Any = cache.get("sd")
    assert generator.pipeline.safety_checker is not None
    images = generator.generate(PROMPTS, pool.candidate("sd-2"), [0, 1, 2])
    plain = _write_pool(tmp_path, weights=str(PACKAGED / "tiny" / "sd"))
    assert (
        images
        == GeneratorCache(plain, "cpu")
        .get("sd")
        .generate(PROMPTS, pool.candidate("sd-2"), [0, 1, 2])
    ).all()
    plain_row, *_ = check_rows(str(plain.file), None)
    assert (rows[0]["cost"], rows[0]["memory_gb"]) >= (plain_row["cost"], plain_row["memory_gb"])


def test_a_checker_without_weights_on_this_machine_is_missing_and_no_problem(tmp_path: Path):
    shutil.copytree(PACKAGED / "tiny" / "sd", tmp_path / "sd")
    for part in ("safety_checker", "feature_extractor"):
        (tmp_path / "sd" / part).mkdir()
    (tmp_path / "sd" / "safety_checker" / "config.json").write_text('{"model_type": "clip"}')
    _change_index(
        tmp_path / "sd",
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
        feature_extractor=["transformers", "CLIPImageProcessor"],
    )
    pool = _write_pool(tmp_path)
    row, *_ = check_rows(str(pool.file), None)
    assert row["problem"] == "" and row["cost"] > 0
    assert row["weights"] == f"safety_checker/*.safetensors not found in {tmp_path / 'sd'}"
    with pytest.raises(InputError, match=r"no safetensors file in .*safety_checker\. Put"):
        GeneratorCache(pool, "cpu").prepare()


def test_a_flagged_image_is_refused_and_never_returned_as_a_black_image(
    checked_weights: Path, tmp_path: Path
):
    pool = _write_pool(tmp_path)
    candidate, seeds = pool.candidate("sd-2"), [0, 1, 2]
    plain = GeneratorCache(pool, "cpu").get("sd").generate(PROMPTS, candidate, seeds)
    _flag_images(checked_weights, -2.0)
    flagging: Any = GeneratorCache(pool, "cpu").get("sd")
    with pytest.raises(RefusedImages) as refused:
        flagging.generate(PROMPTS, candidate, seeds)
    assert refused.value.images == {} and list(refused.value.reasons) == [0, 1, 2]
    assert str(refused.value).startswith(
        f"{pool.file}: generators.sd.parts.safety_checker: the safety checker flags the image of"
        " 'sd-2' for the prompt 'a red ring' at seed 0. Remove the prompt, set"
    )

    def flag_second(images: Any, clip_input: Any) -> Any:
        images[1] = torch.zeros_like(images[1])
        return images, [False, True, False]

    flagging.pipeline.safety_checker.forward = flag_second
    with pytest.raises(RefusedImages) as partly_refused:
        flagging.generate(PROMPTS, candidate, seeds)
    assert list(partly_refused.value.reasons) == [1]
    assert sorted(partly_refused.value.images) == [0, 2]
    assert all((image == plain[i]).all() for i, image in partly_refused.value.images.items())


def test_the_safety_checker_can_be_left_out(checked_weights: Path, tmp_path: Path):
    _flag_images(checked_weights, -2.0)
    shutil.rmtree(checked_weights / "safety_checker")
    pool = _write_pool(tmp_path, parts={"safety_checker": None})
    row, *_ = check_rows(str(pool.file), None)
    assert (row["problem"], row["weights"]) == ("", "available")
    cache = GeneratorCache(pool, "cpu")
    cache.prepare()
    images = cache.get("sd").generate(PROMPTS, pool.candidate("sd-2"), [0, 1, 2])
    assert images.reshape(3, -1).std(1).min() > 1
    needed = _write_pool(tmp_path, parts={"vae": None})
    for check in (GeneratorCache(needed, "cpu").prepare, lambda: _raise_problem(needed)):
        with pytest.raises(InputError, match=r"parts\.vae: .* needs this part, so it cannot be"):
            check()


def _raise_problem(pool: Pool) -> None:
    raise InputError(check_rows(str(pool.file), None)[0]["problem"])


def test_generators_share_a_safety_checker(checked_weights: Path, tmp_path: Path):
    pool = _write_pool(tmp_path)
    tree = yaml.safe_load(pool.file.read_text())
    tree["generators"]["other"] = {**tree["generators"]["sd"], "guidance": 1.0}
    tree["candidates"].append({"candidate": "other-1", "generator": "other", "steps": 1})
    pool.file.write_text(yaml.safe_dump(tree))
    pool = load_pool(str(pool.file))
    cache = GeneratorCache(pool, "cpu")
    first: Any = cache.get("sd")
    second: Any = cache.get("other")
    assert first.pipeline.safety_checker is second.pipeline.safety_checker
    assert np.ptp(second.generate(PROMPTS[:1], pool.candidate("other-1"), [0])) > 0


def test_a_class_of_an_unknown_module_is_reported(checked_weights: Path, tmp_path: Path):
    """Importing a module that a downloaded file names would run its code."""
    _change_index(checked_weights, text_encoder=["antigravity", "Encoder"])
    pool = _write_pool(tmp_path)
    for check in (GeneratorCache(pool, "cpu").prepare, lambda: _raise_problem(pool)):
        with pytest.raises(InputError, match=r"sd\.weights: .*'text_encoder', Encoder of 'antig"):
            check()


def test_a_damaged_index_is_reported(checked_weights: Path, tmp_path: Path):
    (checked_weights / "model_index.json").write_text("{")
    pool = _write_pool(tmp_path)
    for check in (GeneratorCache(pool, "cpu").prepare, lambda: _raise_problem(pool)):
        with pytest.raises(InputError, match=r"model_index\.json is damaged\. Download it again"):
            check()


@pytest.fixture
def kolors_pool(architecture_pool: MakePool, tmp_path: Path) -> Pool:
    """A pool with the configuration files of a small Kolors model."""
    folder = tmp_path / "kolors"
    pool = architecture_pool("sdxl")
    source = Path(pool.generators["mini"].weights)  # type: ignore[attr-defined]
    shutil.copytree(source, folder)
    shutil.rmtree(folder / "text_encoder")
    shutil.rmtree(folder / "text_encoder_2")
    unet_file = folder / "unet" / "config.json"
    unet = json.loads(unet_file.read_text())
    width = 16
    unet |= {"cross_attention_dim": width, "projection_class_embeddings_input_dim": 6 * 8 + width}
    unet |= {"addition_time_embed_dim": 8}
    unet_file.write_text(json.dumps(unet))
    chatglm = {
        "num_layers": 2,
        "padded_vocab_size": 100,
        "hidden_size": width,
        "ffn_hidden_size": 32,
        "kv_channels": 4,
        "num_attention_heads": 4,
        "seq_length": 256,
        "multi_query_attention": True,
        "multi_query_group_num": 2,
        "original_rope": True,
        "model_type": "chatglm",
    }
    (folder / "text_encoder").mkdir()
    (folder / "text_encoder" / "config.json").write_text(json.dumps(chatglm))
    index = json.loads((folder / "model_index.json").read_text())
    index = {k: v for k, v in index.items() if not k.endswith("_2")}
    index |= {
        "_class_name": "KolorsPipeline",
        "text_encoder": ["kolors", "ChatGLMModel"],
        "tokenizer": ["kolors", "ChatGLMTokenizer"],
        "force_zeros_for_empty_prompt": False,
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return _write_pool(tmp_path, weights="kolors", pipeline="KolorsPipeline", size=16)


def test_costs_of_kolors_are_counted(kolors_pool: Pool, monkeypatch: pytest.MonkeyPatch):
    import diffusers
    from diffusers.pipelines.kolors.pipeline_kolors import KolorsPipeline

    monkeypatch.setattr(diffusers, "KolorsPipeline", KolorsPipeline)  # without its tokenizer
    first, second = check_rows(str(kolors_pool.file), None)
    assert (first["problem"], second["problem"]) == ("", "")
    assert 0 < first["cost"] < second["cost"]
    assert "text_encoder/*.safetensors" in first["weights"]


@pytest.mark.skipif(find_spec("sentencepiece") is not None, reason="the package is installed")
def test_a_pipeline_that_needs_another_package_is_reported(kolors_pool: Pool):
    for check in (GeneratorCache(kolors_pool, "cpu").prepare, lambda: _raise_problem(kolors_pool)):
        with pytest.raises(
            InputError,
            match=r"sd\.pipeline: KolorsPipeline needs packages .* 'pip install .*sentencepiece'",
        ):
            check()


def test_flagged_images_stop_the_stage_or_are_left_out(
    checked_weights: Path, tmp_path: Path, miniature_pool: Path, monkeypatch: pytest.MonkeyPatch
):
    """The image of 'sd-1', the reference of all images, is flagged for one of two prompts."""
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker

    def flag(self: Any, images: Any, clip_input: Any) -> Any:
        flags = [bool(image.float().mean() > limit) for image in images]
        for image, is_flagged in zip(images, flags, strict=True):
            image[:] = 0 if is_flagged else image
        return images, flags

    pool = _write_pool(tmp_path)
    tree = yaml.safe_load(pool.file.read_text()) | {"metric_reference": {"sd": "sd-1"}}
    pool.file.write_text(yaml.safe_dump(tree))
    workspace, params = workspace_of(tmp_path / "work", miniature_pool, PROMPTS[:2])
    update = {"pool": str(pool.file), "label": LabelParams(metrics=["sharpness", "ssim"])}
    params = params.model_copy(update=update)
    generate.run(workspace, params)
    brightness = {
        key: decode_image(image).mean() / 255
        for key, image in _images_of(workspace).items()
        if key[1] == "sd-1"
    }
    limit = 2 * (sum(sorted(brightness.values())[-2:]) / 2) - 1  # the pipeline scales to [-1, 1]
    flagged = [key for key, value in brightness.items() if 2 * value - 1 > limit]
    assert len(flagged) == 1
    monkeypatch.setattr(StableDiffusionSafetyChecker, "forward", flag)
    for path in workspace.images.glob("*"):
        path.unlink()
    with pytest.raises(InputError, match=r"safety_checker: the safety checker flags the image of"):
        generate.run(workspace, params)
    skipping = params.generate.model_copy(update={"on_refusal": "skip"})
    params = params.model_copy(update={"generate": skipping})
    generate.run(workspace, params)
    images = _images_of(workspace)
    absent = set(product([prompt_id(p) for p in PROMPTS[:2]], ["sd-1", "sd-2"], [0, 1]))
    absent -= images.keys()
    assert flagged[0] in absent and min(decode_image(i).std() for i in images.values()) > 1
    label.run(workspace, params)
    scores = read_table(workspace.scores, SCORES, "label")
    scored = {
        name: set(rows[["prompt_id", "candidate", "seed"]].itertuples(index=False, name=None))
        for name, rows in scores.groupby("metric")
    }
    assert scored["sharpness"] == images.keys()
    without_reference = {key for key in images if (key[0], "sd-1", key[2]) in absent}
    assert scored["ssim"] == images.keys() - without_reference
    assert (*flagged[0][:1], "sd-2", *flagged[0][2:]) not in scored["ssim"]


def _images_of(workspace: Workspace) -> dict[tuple[str, str, int], bytes]:
    rows = [
        row
        for entry in read_manifest(workspace.images)
        for row in read_shard(workspace.images, entry.shard)[0].to_pylist()
    ]
    return {(row["prompt_id"], row["candidate"], row["seed"]): row["image"] for row in rows}
