"""A pool whose parts are trained with a few updates each, by the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from catimage_tiny.__main__ import main


@dataclass(frozen=True)
class TrainedPool:
    arguments: list[str]
    build: Path
    out: Path


@pytest.fixture(scope="session")
def trained_pool(tmp_path_factory: pytest.TempPathFactory) -> TrainedPool:
    folder = tmp_path_factory.mktemp("weights")
    build, out = folder / "build", folder / "tiny"
    arguments = ["--build", str(build), "--out", str(out), "--device", "cpu", "--workers", "1"]
    arguments += ["--scale", "0.001", "--max-batch-size", "4"]
    main(arguments)
    return TrainedPool(arguments, build, out)
