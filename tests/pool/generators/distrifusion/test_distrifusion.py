"""The kind ``distrifusion``, tested with a real worker process and a fake pipeline.

The package ``distrifuser`` needs several GPUs, so these tests do not run it.
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

FAKE_WORKER = Path(__file__).with_name("fake_worker.py")


START_FAKE_WORKER = f'exec {sys.executable} {FAKE_WORKER} "$@"'


def write_interpreter(folder: Path, command: str = START_FAKE_WORKER) -> Path:
    """Write a shell script in place of the Python interpreter of the environment."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(0o755)
    return path


def save_pool(folder: Path, weights: Path, **settings: Any) -> Pool:
    """Write a pool file with a generator of the kind, and return the pool that is read from it."""
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
    """The folder of a Stable Diffusion pipeline."""
    return miniature_pool.parent / "sd"


def load_generator(
    folder: Path, weights: Path, **settings: Any
) -> tuple[Pool, DistrifusionGenerator]:
    """Return a pool, and its generator with a running fake worker."""
    write_interpreter(folder)
    pool = save_pool(folder, weights, **settings)
    generator = kind_of(pool.generators["d"], folder).load(DeviceMemory())
    assert isinstance(generator, DistrifusionGenerator)
    return pool, generator


def test_images_are_in_the_order_of_the_prompts(tmp_path: Path, weights: Path):
    pool, generator = load_generator(tmp_path, weights)
    images = generator.generate(
        ["x", "y\nz", "é"], pool.candidate("a"), [1, 2, 3], generator.encode(["x"])
    )
    assert images.shape == (3, 64, 64, 3)
    np.testing.assert_array_equal(images[:, 0, 0], [[1, 3, 75], [2, 3, 75], [3, 3, 75]])
    np.testing.assert_array_equal(
        generator.generate(["x"], pool.candidate("b"), [9])[0, 5, 5], [9, 5, 25]
    )


def test_a_failed_request_is_reported_and_the_worker_continues(tmp_path: Path, weights: Path):
    pool, generator = load_generator(tmp_path, weights)
    with pytest.raises(
        InputError,
        match=r"worker failed at the prompt 'fail' \(ValueError: CUDA out of memory\.\)\. Run",
    ) as caught:
        generator.generate(["fail"], pool.candidate("a"), [0])
    assert "\n" not in str(caught.value)
    assert generator.generate(["x"], pool.candidate("a"), [1]).shape == (1, 64, 64, 3)


def test_a_worker_that_exits_is_reported_with_the_end_of_its_log(tmp_path: Path, weights: Path):
    pool, generator = load_generator(tmp_path, weights)
    with pytest.raises(
        InputError,
        match=r"exited at the prompt 'die' \(exit code 7; the end of its log: .*end of the log\)\.",
    ):
        generator.generate(["die"], pool.candidate("a"), [0])
    with pytest.raises(InputError, match=r"exited at the prompt 'x'"):
        generator.generate(["x"], pool.candidate("a"), [0])


def test_a_worker_that_does_not_respond_is_terminated(tmp_path: Path, weights: Path):
    pool, generator = load_generator(tmp_path, weights, timeout=0.5)
    with pytest.raises(
        InputError, match=r"did not respond within 0\.5 s at the prompt 'hang' and was terminated"
    ):
        generator.generate(["hang"], pool.candidate("a"), [0])
    assert not is_running(generator._process.pid)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_worker_ends_when_its_generator_is_deleted(tmp_path: Path, weights: Path):
    _, generator = load_generator(tmp_path, weights)
    pid = generator._process.pid
    assert is_running(pid)
    del generator
    gc.collect()
    deadline = time.monotonic() + 5
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(pid)


def test_several_processes_work_on_the_same_request(tmp_path: Path, weights: Path):
    """Run torchrun with two processes, of which the first reads requests and writes responses."""
    run = f"exec {sys.executable} -m torch.distributed.run --standalone --nproc_per_node=2"
    write_interpreter(tmp_path, f'for last; do :; done\n{run} {FAKE_WORKER} "$last"')
    pool = save_pool(tmp_path, weights, start_timeout=120)
    images = (
        kind_of(pool.generators["d"], tmp_path)
        .load(DeviceMemory())
        .generate(["x", "y"], pool.candidate("a"), [4, 5])
    )
    assert images[:, 0, 0, 0].tolist() == [4, 5]


def test_errors_at_the_start_of_a_worker_are_reported(tmp_path: Path, weights: Path):
    with pytest.raises(
        InputError,
        match=(
            r"d\.python: DistriFusion's worker cannot start \(RuntimeError: Found no NVIDIA driver"
        ),
    ):
        load_generator(tmp_path, weights, mode="no_sync")
    write_interpreter(tmp_path, "echo no such module >&2; exit 3")
    with pytest.raises(
        InputError, match=r"exited at the start \(exit code 3; the end of its log: no such module"
    ):
        kind_of(save_pool(tmp_path, weights).generators["d"], tmp_path).load(DeviceMemory())
    write_interpreter(tmp_path, "sleep 60")
    with pytest.raises(InputError, match=r"did not respond within 0\.2 s at the start"):
        kind_of(save_pool(tmp_path, weights, start_timeout=0.2).generators["d"], tmp_path).load(
            DeviceMemory()
        )


def test_missing_files_are_reported_before_loading(tmp_path: Path, weights: Path):
    pool = save_pool(tmp_path, weights)
    spec = pool.generators["d"]
    with pytest.raises(
        InputError,
        match=(
            r"the file .*python is not found\. Create the environment of distrifuser with: uv venv"
            r" .*"
            r" distrifuser=="
        ),
    ):
        kind_of(spec, tmp_path).prepare(pool.candidates, "cuda")
    write_interpreter(tmp_path)
    kind_of(spec, tmp_path).prepare(pool.candidates, "cuda")
    with pytest.raises(
        InputError, match=r"weights: the folder .* is not found.*add its 'revision'"
    ):
        kind_of(save_pool(tmp_path, tmp_path / "nowhere").generators["d"], tmp_path).prepare(
            pool.candidates, "cuda"
        )
    (tmp_path / "pickled" / "unet").mkdir(parents=True)
    (tmp_path / "pickled" / "unet" / "diffusion_pytorch_model.bin").touch()
    with pytest.raises(
        InputError, match=r"there is no safetensors file in .*unet\. Convert the weights"
    ):
        kind_of(save_pool(tmp_path, tmp_path / "pickled").generators["d"], tmp_path).prepare(
            pool.candidates, "cuda"
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"devices": 3}, "must be a power of two"), ({"guidance": 1}, r"d\.guidance")],
)
def test_invalid_entries_are_refused(
    tmp_path: Path, weights: Path, settings: dict[str, Any], message: str
):
    with pytest.raises(InputError, match=message):
        save_pool(tmp_path, weights, **settings)


def test_text_encoder_and_decoder_are_counted_once_per_gpu(tmp_path: Path, weights: Path):
    tree = pool_tree(str(weights), (3,))
    tree["generators"]["mini"].update(guidance=7.5)  # type: ignore[index]
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(tree))
    plain = candidate_costs(load_pool(str(tmp_path / "plain.yaml"))).iloc[0]
    costs = candidate_costs(save_pool(tmp_path, weights)).iloc[0]
    assert costs["denoiser"] == plain["denoiser"] and costs["denoiser_calls"] == 3
    assert (costs["text_encoder"], costs["decoder"]) == (
        4 * plain["text_encoder"],
        4 * plain["decoder"],
    )
    identity = kind_of(load_pool(str(tmp_path / "pool.yaml")).generators["d"], tmp_path).identity()
    assert (
        identity
        == kind_of(load_pool(str(tmp_path / "plain.yaml")).generators["mini"], tmp_path).identity()
    )
