"""The distrifusion kind with a real worker process behind the real protocol; the backend is a
stand-in, since the package needs GPUs.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from catimage.errors import InputError
from catimage.pool.costs import candidate_costs
from catimage.pool.device_memory import DeviceMemory
from catimage.pool.generators.distrifusion.generator import DistrifusionGenerator
from catimage.pool.loading import load_pool
from catimage.pool.registry import kind_of
from catimage.pool.spec import Pool
from tests.miniature import pool_tree

FAKE = Path(__file__).with_name("fake.py")


def interpreter(folder: Path, command: str = f'exec {sys.executable} {FAKE} "$@"') -> Path:
    """In place of the environment's Python: starts the stand-in with the arguments of the worker."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(0o755)
    return path


def pool_of(folder: Path, weights: Path, **settings: Any) -> Pool:
    generator = {
        "kind": "distrifusion",
        "weights": str(weights),
        "python": "python",
        "devices": 4,
        "size": 64,
        "scheduler": "EulerDiscreteScheduler",
        "timeout": 20,
        "start_timeout": 20,
        **settings,
    }
    candidates = [
        {"candidate": "a", "generator": "d", "steps": 3},
        {"candidate": "b", "generator": "d", "steps": 5, "guidance": 2.5},
    ]
    path = folder / "pool.yaml"
    path.write_text(
        yaml.safe_dump({"name": "d", "generators": {"d": generator}, "candidates": candidates})
    )
    return load_pool(str(path))


@pytest.fixture
def weights(miniature_pool: Path) -> Path:
    return miniature_pool.parent / "sd"


def opened(folder: Path, weights: Path, **settings: Any) -> tuple[Pool, DistrifusionGenerator]:
    interpreter(folder)
    pool = pool_of(folder, weights, **settings)
    generator = kind_of(pool.generators["d"], folder).load(DeviceMemory())
    assert isinstance(generator, DistrifusionGenerator)
    return pool, generator


def test_images_come_from_the_worker_in_order(tmp_path: Path, weights: Path):
    pool, generator = opened(tmp_path, weights)
    images = generator.generate(
        ["x", "y\nz", "é"], pool.candidate("a"), [1, 2, 3], generator.encode(["x"])
    )
    assert images.shape == (3, 64, 64, 3)
    np.testing.assert_array_equal(images[:, 0, 0], [[1, 3, 75], [2, 3, 75], [3, 3, 75]])
    np.testing.assert_array_equal(
        generator.generate(["x"], pool.candidate("b"), [9])[0, 5, 5], [9, 5, 25]
    )


def test_a_request_that_fails_is_said_and_the_worker_goes_on(tmp_path: Path, weights: Path):
    pool, generator = opened(tmp_path, weights)
    with pytest.raises(
        InputError, match=r"worker failed at the prompt 'fail': ValueError: CUDA out of memory\.$"
    ) as caught:
        generator.generate(["fail"], pool.candidate("a"), [0])
    assert "\n" not in str(caught.value)
    assert generator.generate(["x"], pool.candidate("a"), [1]).shape == (1, 64, 64, 3)


def test_a_worker_that_dies_is_told_with_its_last_words(tmp_path: Path, weights: Path):
    pool, generator = opened(tmp_path, weights)
    with pytest.raises(
        InputError,
        match=r"died at the prompt 'die' \(exit code 7\), and said last: .*a last word\.$",
    ):
        generator.generate(["die"], pool.candidate("a"), [0])
    with pytest.raises(InputError, match=r"died at the prompt 'x'"):
        generator.generate(["x"], pool.candidate("a"), [0])


def test_a_worker_that_hangs_is_ended(tmp_path: Path, weights: Path):
    pool, generator = opened(tmp_path, weights, timeout=0.5)
    with pytest.raises(InputError, match=r"hung for 0\.5 s at the prompt 'hang' and was ended"):
        generator.generate(["hang"], pool.candidate("a"), [0])
    assert not alive(generator._process.pid)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_worker_ends_with_its_generator(tmp_path: Path, weights: Path):
    _, generator = opened(tmp_path, weights)
    pid = generator._process.pid
    assert alive(pid)
    del generator
    gc.collect()
    end = time.monotonic() + 5
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.01)
    assert not alive(pid)


def test_several_processes_work_on_the_same_request(tmp_path: Path, weights: Path):
    """Under the real torchrun, with two processes of which one reads and writes."""
    run = f"exec {sys.executable} -m torch.distributed.run --standalone --nproc_per_node=2"
    interpreter(tmp_path, f'for last; do :; done\n{run} {FAKE} "$last"')
    pool = pool_of(tmp_path, weights, start_timeout=120)
    images = (
        kind_of(pool.generators["d"], tmp_path)
        .load(DeviceMemory())
        .generate(["x", "y"], pool.candidate("a"), [4, 5])
    )
    assert images[:, 0, 0, 0].tolist() == [4, 5]


def test_what_keeps_a_worker_from_starting(tmp_path: Path, weights: Path):
    with pytest.raises(
        InputError,
        match=(
            r"d\.python: DistriFusion's worker cannot start: RuntimeError: Found no NVIDIA driver"
        ),
    ):
        opened(tmp_path, weights, mode="no_sync")
    interpreter(tmp_path, "echo no such module >&2; exit 3")
    with pytest.raises(
        InputError, match=r"died at starting \(exit code 3\), and said last: no such module"
    ):
        kind_of(pool_of(tmp_path, weights).generators["d"], tmp_path).load(DeviceMemory())
    interpreter(tmp_path, "sleep 60")
    with pytest.raises(InputError, match=r"hung for 0\.2 s at starting"):
        kind_of(pool_of(tmp_path, weights, start_timeout=0.2).generators["d"], tmp_path).load(
            DeviceMemory()
        )


def test_what_is_missing_is_said_beforehand(tmp_path: Path, weights: Path):
    pool = pool_of(tmp_path, weights)
    spec = pool.generators["d"]
    with pytest.raises(
        InputError,
        match=(
            r"there is no .*python; make the environment of distrifuser with: uv venv .*"
            r" distrifuser=="
        ),
    ):
        kind_of(spec, tmp_path).prepare(pool.candidates, "cuda")
    interpreter(tmp_path)
    kind_of(spec, tmp_path).prepare(pool.candidates, "cuda")
    with pytest.raises(InputError, match=r"weights: there is no folder .*add its 'revision'"):
        kind_of(pool_of(tmp_path, tmp_path / "nowhere").generators["d"], tmp_path).prepare(
            pool.candidates, "cuda"
        )
    (tmp_path / "pickled" / "unet").mkdir(parents=True)
    (tmp_path / "pickled" / "unet" / "diffusion_pytorch_model.bin").touch()
    with pytest.raises(InputError, match=r"holds no safetensors; pickles are refused"):
        kind_of(pool_of(tmp_path, tmp_path / "pickled").generators["d"], tmp_path).prepare(
            pool.candidates, "cuda"
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"devices": 3}, "must be a power of two"), ({"guidance": 1}, r"d\.guidance")],
)
def test_bad_entries_are_refused(
    tmp_path: Path, weights: Path, settings: dict[str, Any], message: str
):
    with pytest.raises(InputError, match=message):
        pool_of(tmp_path, weights, **settings)


def test_costs_are_the_denoisers_with_text_and_decoder_on_every_gpu(tmp_path: Path, weights: Path):
    tree = pool_tree(str(weights), (3,))
    tree["generators"]["mini"].update(guidance=7.5)  # type: ignore[index]
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(tree))
    plain = candidate_costs(load_pool(str(tmp_path / "plain.yaml"))).iloc[0]
    spread = candidate_costs(pool_of(tmp_path, weights)).iloc[0]
    assert spread["denoiser"] == plain["denoiser"] and spread["denoiser_calls"] == 3
    assert (spread["text_encoder"], spread["decoder"]) == (
        4 * plain["text_encoder"],
        4 * plain["decoder"],
    )
    identity = kind_of(load_pool(str(tmp_path / "pool.yaml")).generators["d"], tmp_path).identity()
    assert (
        identity
        == kind_of(load_pool(str(tmp_path / "plain.yaml")).generators["mini"], tmp_path).identity()
    )
