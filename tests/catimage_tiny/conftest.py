"""A pool whose parts are trained with a few updates each, by the command line."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from catimage_tiny.__main__ import main
from tests.shared_folder import shared_folder


@dataclass(frozen=True)
class TrainedPool:
    """A trained pool.

    Attributes:
        arguments: the arguments of the command line for this pool.
        build: the build folder, which is a copy.
        out: the folder of the weights, which is a copy.
        trained_in: the folder in which the pool was trained.
    """

    arguments: list[str]
    build: Path
    out: Path
    trained_in: Path


def arguments_of(folder: Path) -> list[str]:
    build, out = folder / "build", folder / "tiny"
    arguments = ["--build", str(build), "--out", str(out), "--device", "cpu", "--workers", "1"]
    return [*arguments, "--scale", "0.001", "--max-batch-size", "4"]


@pytest.fixture(scope="session")
def trained_pool(tmp_path_factory: pytest.TempPathFactory) -> TrainedPool:
    original = shared_folder(tmp_path_factory, "weights", lambda folder: main(arguments_of(folder)))
    folder = shutil.copytree(original, tmp_path_factory.mktemp("trained") / "weights")
    return TrainedPool(arguments_of(folder), folder / "build", folder / "tiny", original)
