"""Pools of miniature pipelines of every family, made when a test first asks for one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from catimage.pool.loading import load_pool
from catimage.pool.spec import Pool
from tests.architectures import generator_of, save_family

MakePool = Callable[..., Pool]


@pytest.fixture(scope="session")
def family_weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's weights."""
    root = tmp_path_factory.mktemp("families")

    def folder(name: str) -> Path:
        return root / name if (root / name).exists() else save_family(name, root / name)

    return folder


@pytest.fixture
def family_pool(family_weights: Callable[[str], Path], tmp_path: Path) -> MakePool:
    """A pool of one family, with candidates of one to four steps, one more of ``settings``; others'
    keys change the generator.
    """

    def make(family: str, settings: dict[str, Any] | None = None, **changes: Any) -> Pool:
        generator = {**generator_of(family, str(family_weights(family))), **changes}
        candidates: list[dict[str, Any]] = [
            {"candidate": f"mini-{n}", "generator": "mini", "steps": n} for n in (1, 2, 3, 4)
        ]
        candidates += (
            [{"candidate": "other", "generator": "mini", "steps": 4, **settings}]
            if settings
            else []
        )
        path = tmp_path / "family.yaml"
        path.write_text(
            yaml.safe_dump(
                {"name": "family", "generators": {"mini": generator}, "candidates": candidates}
            )
        )
        return load_pool(str(path))

    return make
