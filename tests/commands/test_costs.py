import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from catimage.commands.costs import cost_rows
from catimage.errors import InputError
from tests.miniature import STEPS, pool_tree


def test_rows_are_json_and_begin_with_the_documented_keys(miniature_pool: Path):
    rows = cost_rows(str(miniature_pool), None)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert [list(row)[:5] for row in rows] == [
        ["candidate", "generator", "steps", "cost", "unit"]
    ] * len(STEPS)
    for row in rows:
        assert row["cost"] == pytest.approx(row["denoiser"] + row["text_encoder"] + row["decoder"])


def test_paper_convention_counts_fewer_operations(miniature_pool: Path):
    full, paper = (
        cost_rows(str(miniature_pool), None),
        cost_rows(str(miniature_pool), None, "paper"),
    )
    assert all(p["cost"] < f["cost"] for f, p in zip(full, paper, strict=True))
    assert {p["decoder"] for p in paper} == {0.0}
    with pytest.raises(InputError, match=r"--convention 'papper': .*did you mean 'paper'"):
        cost_rows(str(miniature_pool), None, "papper")


def test_terms_of_an_explicit_cost_are_none(tmp_path: Path):
    tree: Any = pool_tree("nowhere", (1,))
    tree["costs"] = "explicit"
    tree["candidates"][0].update(cost=3, unit="wh")
    (tmp_path / "pool.yaml").write_text(yaml.safe_dump(tree))
    (row,) = cost_rows("pool", tmp_path)
    assert (row["cost"], row["unit"], row["denoiser"]) == (3.0, "wh", None)
    json.dumps(row, allow_nan=False)


def test_measured_seconds_are_added_to_the_rows(miniature_pool: Path):
    rows = cost_rows(str(miniature_pool), None, repeats=2, device="cpu")
    assert [list(row)[-4:] for row in rows] == [["seconds", "seconds_iqr", "wh", "wh_iqr"]] * len(
        STEPS
    )
    assert 0 < rows[0]["seconds"] < rows[-1]["seconds"] and rows[0]["seconds_iqr"] >= 0
    assert {row["wh"] for row in rows} == {None}
    json.dumps(rows, allow_nan=False)
