"""Stage generate with changed prompts or seeds: only new images are generated."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from catimage.data.prompts.identity import prompt_id
from catimage.data.schema import PROMPTS as PROMPTS_SCHEMA
from catimage.data.schema import write_table
from catimage.data.shards.manifest import read_manifest, write_manifest
from catimage.data.shards.store import read_shard, shard_path
from catimage.params import Params
from catimage.pool.generation import generate_images
from catimage.pool.generators.diffusion.generator import DiffusionGenerator
from catimage.pool.generators.diffusion.kind import DiffusersKind
from catimage.pool.loading import load_pool
from catimage.stages import generate
from catimage.workspace import Workspace
from tests.miniature import STEPS, pool_tree
from tests.noise_generator import Generated, NoiseGenerator, generate_noise

PROMPTS = [f"{n} red rings" for n in ("no", "two", "three", "four", "five")]
NEW = ["six blue cubes", "seven blue cubes", "eight blue cubes"]

Images = dict[tuple[str, str, int], bytes]


@pytest.fixture
def generated_images(monkeypatch: pytest.MonkeyPatch) -> Generated:
    """The prompt, candidate and seed of every image; a generator of noise generates new images."""
    return generate_noise(monkeypatch)


@pytest.fixture
def diffusion_images(monkeypatch: pytest.MonkeyPatch) -> Generated:
    """The prompt, candidate and seed of every image that the generator of the pool generates."""
    calls: Generated = []
    original = DiffusionGenerator.generate

    def record(
        self: Any, prompts: list[str], candidate: Any, seeds: list[int], encoded: Any = None
    ) -> Any:
        calls.extend((p, candidate.candidate, s) for p, s in zip(prompts, seeds, strict=True))
        return original(self, prompts, candidate, seeds, encoded)

    monkeypatch.setattr(DiffusionGenerator, "generate", record)
    return calls


def images_of(workspace: Workspace) -> Images:
    """Return the encoded images of the manifest's shards, each of which must be there once."""
    rows = [
        row
        for entry in read_manifest(workspace.images)
        for row in read_shard(workspace.images, entry.shard)[0].to_pylist()
    ]
    images = {(r["prompt_id"], r["candidate"], r["seed"]): r["image"] for r in rows}
    assert len(images) == len(rows)
    return images


def shards_of(workspace: Workspace) -> dict[str, bytes]:
    """Return the content of the shards by file name."""
    return {p.name: p.read_bytes() for p in workspace.images.glob("*.parquet")}


def with_prompts(workspace: Workspace, prompts: list[str]) -> None:
    """Replace the prompts table."""
    rows = [(prompt_id(p), p, "test", "train") for p in prompts]
    write_table(pd.DataFrame(rows, columns=PROMPTS_SCHEMA.names), workspace.prompts, PROMPTS_SCHEMA)


def expected_keys(prompts: list[str], seeds: tuple[int, ...] = (0, 1)) -> set[Any]:
    return {(prompt_id(p), f"mini-{n}", s) for p in prompts for n in STEPS for s in seeds}


@pytest.mark.parametrize(
    "reorder",
    [
        lambda: [*PROMPTS, *NEW],
        lambda: [*NEW, *PROMPTS],
        lambda: [*PROMPTS[:2], *NEW, *reversed(PROMPTS[2:])],
    ],
    ids=["added at the end", "added before", "added between, others reordered"],
)
def test_only_images_of_new_prompts_are_generated_and_all_shards_stay(
    generated_copy: tuple[Workspace, Params],
    generated_images: Generated,
    reorder: Callable[[], list[str]],
):
    workspace, params = generated_copy
    shards, images = shards_of(workspace), images_of(workspace)
    with_prompts(workspace, reorder())
    generate.run(workspace, params)
    assert sorted(generated_images) == sorted(
        (p, f"mini-{n}", s) for p in NEW for n in STEPS for s in (0, 1)
    )
    after = shards_of(workspace)
    assert {name: after[name] for name in shards} == shards
    assert images_of(workspace).keys() == expected_keys([*PROMPTS, *NEW])
    assert {key: images_of(workspace)[key] for key in images} == images


def test_removed_prompts_leave_the_images_of_the_others_and_load_no_generator(
    generated_copy: tuple[Workspace, Params], monkeypatch: pytest.MonkeyPatch
):
    workspace, params = generated_copy
    images = images_of(workspace)
    with_prompts(workspace, [PROMPTS[0], PROMPTS[2], PROMPTS[4]])

    def refuse(*_: object) -> None:
        raise AssertionError("a generator was loaded")

    monkeypatch.setattr(DiffusersKind, "load", refuse)
    generate.run(workspace, params)
    kept = expected_keys([PROMPTS[0], PROMPTS[2], PROMPTS[4]])
    assert images_of(workspace) == {key: images[key] for key in kept}


def test_a_replaced_prompt_is_the_only_one_that_is_generated(
    generated_copy: tuple[Workspace, Params], diffusion_images: Generated
):
    workspace, params = generated_copy
    images = images_of(workspace)
    with_prompts(workspace, [PROMPTS[0], NEW[0], *PROMPTS[2:]])
    generate.run(workspace, params)
    assert {prompt for prompt, _, _ in diffusion_images} == {NEW[0]}
    assert len(diffusion_images) == len(STEPS) * 2
    after = images_of(workspace)
    kept = expected_keys([PROMPTS[0], *PROMPTS[2:]])
    assert {key: after[key] for key in kept} == {key: images[key] for key in kept}


def test_an_added_seed_generates_no_image_of_the_other_seeds(
    generated_copy: tuple[Workspace, Params], generated_images: Generated
):
    workspace, params = generated_copy
    images = images_of(workspace)
    settings = params.generate.model_copy(update={"seeds": [0, 1, 7]})
    generate.run(workspace, params.model_copy(update={"generate": settings}))
    assert {seed for _, _, seed in generated_images} == {7}
    assert len(generated_images) == len(PROMPTS) * len(STEPS)
    after = images_of(workspace)
    assert after.keys() == expected_keys(PROMPTS, (0, 1, 7))
    assert {key: after[key] for key in images} == images


def test_images_of_a_candidate_that_was_added_for_some_prompts_are_not_generated_again(
    generated_copy: tuple[Workspace, Params],
    generated_images: Generated,
    miniature_pool: Path,
):
    """As ``add-candidate``, which generates images of representative prompts only."""
    workspace, params = generated_copy
    shards = shards_of(workspace)
    tree = pool_tree(str(miniature_pool.parent / "sd"), (*STEPS, 8))
    path = workspace.root / "added.yaml"
    path.write_text(yaml.safe_dump(tree))
    pool = load_pool(str(path))
    single = pool.model_copy(update={"candidates": [pool.candidate("mini-8")]})
    some = [(prompt_id(p), p) for p in (PROMPTS[1], PROMPTS[3])]
    result = generate_images(single, some, workspace.images, params.generate, "tflops")
    write_manifest(workspace.images, [*read_manifest(workspace.images), *result.entries])
    added = {key: image for key, image in images_of(workspace).items() if key[1] == "mini-8"}
    assert len(added) == len(generated_images) == 4
    generated_images.clear()
    generate.run(workspace, params.model_copy(update={"pool": str(path)}))
    assert {prompt for prompt, _, _ in generated_images} == {*PROMPTS[::2]}
    assert {candidate for _, candidate, _ in generated_images} == {"mini-8"}
    after = images_of(workspace)
    assert {key: after[key] for key in added} == added
    assert {name: shards_of(workspace)[name] for name in shards} == shards


def test_a_changed_shard_size_applies_to_new_shards_only(
    generated_copy: tuple[Workspace, Params], generated_images: Generated
):
    workspace, params = generated_copy
    shards = shards_of(workspace)
    settings = params.generate.model_copy(update={"shard_images": 6})
    generate.run(workspace, params.model_copy(update={"generate": settings}))
    assert generated_images == []
    assert shards_of(workspace) == shards


def test_images_of_a_damaged_earlier_shard_are_generated_again(
    generated_copy: tuple[Workspace, Params], generated_images: Generated
):
    workspace, params = generated_copy
    entry = next(
        e
        for e in read_manifest(workspace.images)
        if prompt_id(PROMPTS[1])
        in read_shard(workspace.images, e.shard)[0].column("prompt_id").to_pylist()
    )
    path = shard_path(workspace.images, entry.shard)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(bytes(data))
    with_prompts(workspace, PROMPTS[1:])
    generate.run(workspace, params)
    assert {prompt for prompt, _, _ in generated_images} == {PROMPTS[1]}
    assert {candidate for _, candidate, _ in generated_images} == {entry.candidate}
    assert images_of(workspace).keys() == expected_keys(PROMPTS[1:])


def test_an_interrupted_run_on_changed_prompts_continues(
    generated_copy: tuple[Workspace, Params],
    generated_images: Generated,
    monkeypatch: pytest.MonkeyPatch,
):
    workspace, params = generated_copy
    images, record, limit = images_of(workspace), NoiseGenerator.generate, 2
    with_prompts(workspace, [PROMPTS[4], *NEW, *PROMPTS[1:4]])

    def fail_later(self: Any, *arguments: Any) -> Any:
        nonlocal limit
        limit -= 1
        if limit < 0:
            raise OSError("the device is lost")
        return record(self, *arguments)

    monkeypatch.setattr(NoiseGenerator, "generate", fail_later)
    with pytest.raises(OSError, match="the device is lost"):
        generate.run(workspace, params)
    monkeypatch.setattr(NoiseGenerator, "generate", record)
    generate.run(workspace, params)
    prompts = [PROMPTS[4], *NEW, *PROMPTS[1:4]]
    after = images_of(workspace)
    assert after.keys() == expected_keys(prompts)
    assert {prompt for prompt, _, _ in generated_images} == set(NEW)
    kept = expected_keys(PROMPTS[1:])
    assert {key: after[key] for key in kept} == {key: images[key] for key in kept}
    assert set(shards_of(workspace)) == {
        f"{e.shard}.parquet" for e in read_manifest(workspace.images)
    }
