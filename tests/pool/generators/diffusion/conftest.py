"""Pools of small pipelines with random weights, one per architecture, created on first use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from catimage.pool.loading import load_pool
from catimage.pool.spec import Pool
from tests.architectures import generator_entry, save_architecture

MakePool = Callable[..., Pool]


@pytest.fixture(scope="session")
def architecture_weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from the name of an architecture to the folder of its weights."""
    root = tmp_path_factory.mktemp("architectures")

    def folder(name: str) -> Path:
        return root / name if (root / name).exists() else save_architecture(name, root / name)

    return folder


@pytest.fixture
def architecture_pool(architecture_weights: Callable[[str], Path], tmp_path: Path) -> MakePool:
    """A function that returns a pool with one generator and four candidates, of 1 to 4 steps.

    The argument ``settings`` adds a candidate ``other`` of 4 steps with these settings. Keyword
    arguments change settings of the generator.
    """

    def make(architecture: str, settings: dict[str, Any] | None = None, **changes: Any) -> Pool:
        generator = {
            **generator_entry(architecture, str(architecture_weights(architecture))),
            **changes,
        }
        candidates: list[dict[str, Any]] = [
            {"candidate": f"mini-{n}", "generator": "mini", "steps": n} for n in (1, 2, 3, 4)
        ]
        if settings:
            candidates.append({"candidate": "other", "generator": "mini", "steps": 4, **settings})
        path = tmp_path / "architecture.yaml"
        path.write_text(
            yaml.safe_dump(
                {
                    "name": "architecture",
                    "generators": {"mini": generator},
                    "candidates": candidates,
                }
            )
        )
        return load_pool(str(path))

    return make
