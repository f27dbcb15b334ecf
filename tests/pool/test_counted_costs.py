"""Counted costs that are used again."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from catimage.pool import counted_costs
from catimage.pool.costs import all_costs
from catimage.pool.counted_costs import CountedCosts
from catimage.pool.generation import candidates_table, planned_candidates
from catimage.pool.generators.diffusion.kind import DiffusersKind
from catimage.pool.kind import CostTerms
from catimage.pool.loading import load_pool
from catimage.pool.spec import Pool
from tests.miniature import pool_tree


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the candidates whose costs have been counted."""
    names: list[str] = []
    original = DiffusersKind.count_costs

    def count_costs(self: Any, candidates: Any, convention: Any) -> Any:
        names.extend(c.candidate for c in candidates)
        return original(self, candidates, convention)

    monkeypatch.setattr(DiffusersKind, "count_costs", count_costs)
    return names


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """As ``counted``, with costs that are not counted but made up, which takes no time."""
    names: list[str] = []

    def count_costs(_: Any, candidates: Any, convention: Any) -> list[CostTerms]:
        names.extend(c.candidate for c in candidates)
        return [CostTerms(c.steps / 3, 0.01, 0.02, c.steps, 2) for c in candidates]

    monkeypatch.setattr(DiffusersKind, "count_costs", count_costs)
    return names


def pool_of(folder: Path, weights: Path, steps: list[int], **changes: object) -> Pool:
    tree: dict[str, Any] = pool_tree(str(weights))
    tree["generators"]["mini"].update(changes)
    tree["candidates"] = [{"candidate": f"m{n}", "generator": "mini", "steps": n} for n in steps]
    path = folder / "pool.yaml"
    path.write_text(yaml.safe_dump(tree))
    return load_pool(str(path))


def altered(path: Path, name: str, value: object, **fields: object) -> dict[str, Any]:
    """Change a term of the only candidate in a file, and fields of the file."""
    document: dict[str, Any] = json.loads(path.read_text())
    (terms,) = document["counts"].values()
    terms[name] = value
    path.write_text(json.dumps(document | fields))
    return document


def table(path: Path, pool: Pool) -> pd.DataFrame:
    return candidates_table(pool, CountedCosts(path, planned_candidates(pool)))


def test_only_new_candidates_are_counted(
    tmp_path: Path, miniature_pool: Path, counted: list[str]
) -> None:
    path, weights = tmp_path / "new" / "counted_costs.json", miniature_pool.parent / "sd"
    table(path, pool_of(tmp_path, weights, [1, 3]))
    assert counted == ["m1", "m3"]
    found = table(path, pool_of(tmp_path, weights, [1, 2, 3]))
    assert counted == ["m1", "m3", "m2"]
    again = table(path, pool_of(tmp_path, weights, [1, 2, 3]))
    assert counted == ["m1", "m3", "m2"]
    expected = candidates_table(pool_of(tmp_path, weights, [1, 2, 3]))
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    pd.testing.assert_frame_equal(again, expected, check_exact=True)


def test_another_setting_convention_or_version_is_counted_again(
    tmp_path: Path, miniature_pool: Path, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, weights = tmp_path / "counted_costs.json", miniature_pool.parent / "sd"
    pool = pool_of(tmp_path, weights, [2])
    guided = table(path, pool)
    unguided_pool = pool_of(tmp_path, weights, [2], guidance=1.0)
    unguided = table(path, unguided_pool)
    assert counted == ["m2", "m2"] and unguided["cost"][0] < guided["cost"][0]
    all_costs(unguided_pool, "paper", CountedCosts(path, planned_candidates(unguided_pool)))
    assert len(counted) == 3
    monkeypatch.setattr(counted_costs, "_version", lambda: "another")
    table(path, unguided_pool)
    assert len(counted) == 4


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"version": 1, "counts": {"a": {"b": 1}}}'])
def test_a_damaged_file_is_replaced(
    tmp_path: Path, miniature_pool: Path, quickly: list[str], damage: str
) -> None:
    path = tmp_path / "counted_costs.json"
    path.write_text(damage)
    pool = pool_of(tmp_path, miniature_pool.parent / "sd", [2])
    table(path, pool)
    assert quickly == ["m2"] and len(json.loads(path.read_text())["counts"]) == 1
    table(path, pool)
    assert quickly == ["m2"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("denoiser", value) for value in ("x", None, -1, math.nan, math.inf, True)],
        *[("passes", value) for value in (1.5, 0)],
    ],
)
def test_altered_costs_are_counted_again(
    tmp_path: Path, miniature_pool: Path, quickly: list[str], name: str, value: object
) -> None:
    path, pool = tmp_path / "counted.json", pool_of(tmp_path, miniature_pool.parent / "sd", [2])
    expected = table(path, pool)
    counts = altered(path, name, value)["counts"]
    altered(path, name, value, digest=counted_costs._digest(counts))
    pd.testing.assert_frame_equal(table(path, pool), expected, check_exact=True)
    assert quickly == ["m2", "m2"]


def test_costs_that_are_not_those_of_the_digest_are_counted_again(
    tmp_path: Path, miniature_pool: Path, quickly: list[str]
) -> None:
    path, pool = tmp_path / "counted.json", pool_of(tmp_path, miniature_pool.parent / "sd", [2])
    expected = table(path, pool)
    altered(path, "denoiser", 4 / 3)  # twice as many
    pd.testing.assert_frame_equal(table(path, pool), expected, check_exact=True)
    assert quickly == ["m2", "m2"]


def test_only_the_costs_of_the_last_pool_are_kept(
    tmp_path: Path, miniature_pool: Path, quickly: list[str]
) -> None:
    path, weights = tmp_path / "counted.json", miniature_pool.parent / "sd"
    for steps in ([1, 2], [2, 3], [1, 2], [2, 3]):
        found = table(path, pool_of(tmp_path, weights, steps))
        assert list(found["candidate"]) == [f"m{n}" for n in steps]
    assert quickly == ["m1", "m2", "m3", "m1", "m3"]


def test_a_changed_configuration_of_the_weights_is_counted_again(
    tmp_path: Path, miniature_pool: Path, counted: list[str]
) -> None:
    path = tmp_path / "counted.json"
    weights = Path(shutil.copytree(miniature_pool.parent / "sd", tmp_path / "sd"))
    table(path, pool_of(tmp_path, weights, [2]))
    config = weights / "unet" / "config.json"
    settings = json.loads(config.read_text())
    config.write_text(json.dumps(settings | {"layers_per_block": settings["layers_per_block"] + 1}))
    table(path, pool_of(tmp_path, weights, [2]))
    assert counted == ["m2", "m2"]


def test_kinds_of_other_packages_are_always_counted(
    tmp_path: Path, miniature_pool: Path, quickly: list[str]
) -> None:
    path, pool = tmp_path / "counted.json", pool_of(tmp_path, miniature_pool.parent / "sd", [2])
    foreign = [
        replace(c, definition=c.definition | {"kind": "mine"}) for c in planned_candidates(pool)
    ]
    for _ in range(2):
        candidates_table(pool, CountedCosts(path, foreign))
    assert quickly == ["m2", "m2"] and not path.exists()
