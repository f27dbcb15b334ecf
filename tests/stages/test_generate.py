import os
import random
import signal
import time
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from catimage.data.prompts.identity import prompt_id
from catimage.data.schema import CANDIDATES, read_table
from catimage.data.shards.lock import write_lock
from catimage.data.shards.manifest import MANIFEST_NAME, read_manifest
from catimage.data.shards.store import read_shard, shard_path
from catimage.errors import InputError
from catimage.params import Params, parse_params
from catimage.pool import shard_generation
from catimage.pool.generation import candidates_table
from catimage.pool.generators.diffusion.kind import DiffusersKind
from catimage.pool.image_code import image_code
from catimage.pool.loading import load_pool
from catimage.stages import generate
from catimage.workspace import Workspace
from tests import forked
from tests.miniature import STEPS, pool_tree, workspace_of
from tests.noise_generator import generate_noise

PROMPTS = [f"{n} red rings" for n in ("no", "two", "three", "four", "five")]


@pytest.fixture
def no_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test if a generator is loaded."""

    def refuse(*_: object) -> None:
        raise AssertionError("a generator was loaded")

    monkeypatch.setattr(DiffusersKind, "load", refuse)


def _images(workspace: Workspace) -> list[tuple[Any, ...]]:
    """Return the prompt id, candidate, seed and encoded image of all images."""
    shards = [
        read_shard(workspace.images, e.shard)[0].to_pylist()
        for e in read_manifest(workspace.images)
    ]
    return [
        (r["prompt_id"], r["candidate"], r["seed"], r["image"]) for rows in shards for r in rows
    ]


def _files(workspace: Workspace) -> dict[str, tuple[int, bytes]]:
    """Return the inode and the content of each file in the folder of images, by name."""
    return {p.name: (p.stat().st_ino, p.read_bytes()) for p in workspace.images.iterdir()}


def _with_generation_settings(params: Params, **generation: object) -> Params:
    """Return the parameters with changed keys of the section ``generate``."""
    tree = params.model_dump(by_alias=True, exclude={"imported"})
    return parse_params({**tree, "generate": {**tree["generate"], **generation}}, "params.yaml")


def test_there_is_one_image_per_prompt_candidate_and_seed(generated_copy: tuple[Workspace, Params]):
    workspace, _ = generated_copy
    keys = [row[:3] for row in _images(workspace)]
    assert sorted(keys) == sorted(
        product([prompt_id(p) for p in PROMPTS], [f"mini-{n}" for n in STEPS], [0, 1])
    )
    assert len({row[3] for row in _images(workspace)}) == len(keys), "all images differ"
    assert [e.images for e in read_manifest(workspace.images)].count(4) == 6
    assert set(_files(workspace)) == {
        MANIFEST_NAME,
        *(f"{e.shard}.parquet" for e in read_manifest(workspace.images)),
    }


def test_the_candidates_table_has_counted_tflops(generated_copy: tuple[Workspace, Params]):
    table = read_table(generated_copy[0].candidates, CANDIDATES, "generate")
    assert table["candidate"].tolist() == [f"mini-{n}" for n in STEPS]
    assert set(table["unit"]) == {"tflops"}
    assert table["cost"].is_monotonic_increasing


def test_a_second_run_loads_no_generator_and_changes_no_byte(
    generated_copy: tuple[Workspace, Params], no_generator: None
):
    before = {name: data for name, (_, data) in _files(generated_copy[0]).items()}
    generate.run(*generated_copy)
    assert {name: data for name, (_, data) in _files(generated_copy[0]).items()} == before


def test_a_damaged_shard_is_generated_again_with_a_warning(
    generated_copy: tuple[Workspace, Params], capsys: pytest.CaptureFixture[str]
):
    workspace, _ = generated_copy
    before, images, manifest = (
        _files(workspace),
        _images(workspace),
        (workspace.images / MANIFEST_NAME).read_bytes(),
    )
    damaged = read_manifest(workspace.images)[3]
    path = shard_path(workspace.images, damaged.shard)
    path.write_bytes(path.read_bytes()[:-9])
    generate.run(*generated_copy)
    assert (
        f"warning: {workspace.images / damaged.shard}.parquet: the shard is damaged ("
        in capsys.readouterr().err
    )
    assert _images(workspace) == images
    assert (workspace.images / MANIFEST_NAME).read_bytes() == manifest
    after = _files(workspace)
    assert {n for n in before if after[n][0] != before[n][0]} == {
        path.name,
        MANIFEST_NAME,
    }, "the other shards are unchanged"


def test_a_changed_pool_keeps_the_shards_of_unchanged_candidates(
    generated_copy: tuple[Workspace, Params], miniature_pool: Path
):
    workspace, params = generated_copy
    before = _files(workspace)
    tree = pool_tree(str(miniature_pool.parent / "sd"), (1, 4, 8))
    path = workspace.pools / "other.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(tree))
    (workspace.images / ".shard.123.new").write_text("a temporary file of a killed run")
    generate.run(workspace, params.model_copy(update={"pool": "other"}))
    assert {e.candidate for e in read_manifest(workspace.images)} == {"mini-1", "mini-4", "mini-8"}
    after = _files(workspace)
    assert len(after) == len(before)
    assert sum(after[n][0] == before[n][0] for n in set(after) & set(before)) == 6, (
        "the shards of two of the three candidates are kept"
    )


def test_a_failed_run_keeps_the_previous_output(
    generated_copy: tuple[Workspace, Params], monkeypatch: pytest.MonkeyPatch
):
    generate_noise(monkeypatch)
    workspace, params = generated_copy
    before, candidates = _files(workspace), workspace.candidates.read_bytes()
    write_shard, count = shard_generation.write_shard, 0

    def fail_at_the_third_shard(*arguments: Any) -> str:
        nonlocal count
        count += 1
        if count == 3:
            raise OSError("disk full")
        return write_shard(*arguments)

    monkeypatch.setattr(shard_generation, "write_shard", fail_at_the_third_shard)
    with pytest.raises(OSError, match="disk full"):
        generate.run(workspace, _with_generation_settings(params, seeds=[5]))
    after = _files(workspace)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 2, "finished shards are kept for the next run"
    assert workspace.candidates.read_bytes() == candidates


def test_seconds_are_measured_if_they_are_the_cost_unit(generated_copy: tuple[Workspace, Params]):
    workspace, params = generated_copy
    generate.run(workspace, params.model_copy(update={"cost_unit": "seconds"}))
    table = read_table(workspace.candidates, CANDIDATES, "generate")
    seconds = table[table["unit"] == "seconds"].set_index("candidate")["cost"]
    assert set(table["unit"]) == {"tflops", "seconds"}
    assert 0 < seconds["mini-1"] < seconds["mini-4"]


def test_a_candidate_without_a_cost_in_the_cost_unit_is_refused_before_generators_are_loaded(
    generated_copy: tuple[Workspace, Params], no_generator: None
):
    with pytest.raises(
        InputError,
        match=(
            r"the candidate 'mini-1' has no cost in 'usd', the cost_unit of params\.yaml\. Add"
            r" one"
        ),
    ):
        generate.run(generated_copy[0], generated_copy[1].model_copy(update={"cost_unit": "usd"}))


def test_watt_hours_need_a_gpu_with_an_energy_counter(
    generated_copy: tuple[Workspace, Params], no_generator: None
):
    with pytest.raises(
        InputError,
        match=r"no cost in 'wh', .*, because NVML does not report GPU energy on .*\. Add one",
    ):
        generate.run(generated_copy[0], generated_copy[1].model_copy(update={"cost_unit": "wh"}))


def test_costs_of_the_pool_file_are_added_to_the_counted_costs(
    tmp_path: Path, miniature_pool: Path
):
    tree: Any = pool_tree(str(miniature_pool.parent / "sd"), (1, 2))
    for candidate, cost in zip(tree["candidates"], (0.01, 0.02), strict=True):
        candidate.update(cost=cost, unit="usd")
    path = tmp_path / "with-costs.yaml"
    path.write_text(yaml.safe_dump(tree))
    table = candidates_table(load_pool(str(path)))
    assert table["unit"].tolist() == ["tflops", "tflops", "usd", "usd"]
    assert table["cost"].tolist()[2:] == [0.01, 0.02]
    assert list(table.columns) == CANDIDATES.names


def test_a_second_writer_is_refused(generated_copy: tuple[Workspace, Params]):
    with (
        write_lock(generated_copy[0].images),
        pytest.raises(InputError, match="another process is writing it"),
    ):
        generate.run(*generated_copy)


def test_a_prompts_table_without_rows_is_refused(tmp_path: Path, miniature_pool: Path):
    workspace, params = workspace_of(tmp_path, miniature_pool, [])
    with pytest.raises(InputError, match="the table has no prompts"):
        generate.run(workspace, params)


def kill(child: int) -> int:
    """Kill a process, which may have ended already; return its exit status."""
    os.kill(child, signal.SIGKILL)
    return forked.exit_status(child)


def test_a_run_killed_at_any_time_generates_the_same_images(tmp_path: Path, miniature_pool: Path):
    undisturbed, params = workspace_of(tmp_path / "undisturbed", miniature_pool, PROMPTS)
    killed, _ = workspace_of(tmp_path / "killed", miniature_pool, PROMPTS)

    def start(workspace: Workspace) -> int:
        return forked.start(lambda: generate.run(workspace, params))

    begin = time.monotonic()
    assert forked.exit_status(start(undisturbed)) == 0
    duration = time.monotonic() - begin

    child = start(killed)  # kill it once after two shards are finished
    while len(list(killed.images.glob("*.parquet"))) < 2:
        time.sleep(0.005)
    assert kill(child) == -signal.SIGKILL
    assert not (killed.images / MANIFEST_NAME).exists()
    kept = {p.name: p.stat().st_ino for p in killed.images.glob("*.parquet")}
    for delay in (random.uniform(0, duration) for _ in range(3)):
        child = start(killed)
        time.sleep(delay)
        assert kill(child) in (-signal.SIGKILL, 0)
    assert forked.exit_status(start(killed)) == 0

    assert (killed.images / MANIFEST_NAME).read_bytes() == (
        undisturbed.images / MANIFEST_NAME
    ).read_bytes()
    assert _images(killed) == _images(undisturbed)
    assert {name: (killed.images / name).stat().st_ino for name in kept} == kept, (
        "finished shards are kept"
    )
    assert set(_files(killed)) == set(_files(undisturbed)), "no temporary file is left"
    pd.testing.assert_frame_equal(
        pd.read_parquet(killed.candidates), pd.read_parquet(undisturbed.candidates)
    )


def test_images_are_generated_again_after_a_change_of_the_code_and_the_reason_is_printed(
    generated_copy: tuple[Workspace, Params],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    generate_noise(monkeypatch)
    workspace, params = generated_copy
    before, old = {e.shard for e in read_manifest(workspace.images)}, image_code("diffusers")
    changed = old | {"diffusers": "99.0"}
    with monkeypatch.context() as patch:
        patch.setattr("catimage.pool.generation.image_code", lambda kind: changed)
        generate.run(workspace, params)
    assert before.isdisjoint(e.shard for e in read_manifest(workspace.images))
    images = len(PROMPTS) * 2
    assert capsys.readouterr().out.count("are generated again") == len(STEPS)
    generate.run(workspace, params)
    assert {e.shard for e in read_manifest(workspace.images)} == before
    assert (
        f"generate: {images} images of mini-{STEPS[0]} are generated again: diffusers 99.0 ->"
        f" {old['diffusers']}\n" in capsys.readouterr().out
    )
