"""Audits: real images of the miniature pool, scored by a real metric."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from catimage.commands.score import score_rows
from catimage.data.audits import AUDITS, add_audits, read_audits
from catimage.errors import InputError
from catimage.monitoring.audit import _candidates, audit, auditable
from catimage.params import Params, parse_params
from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.loading import load_pool
from catimage.pool.spec import Pool
from tests.monitoring.decisions import decision, frame

ROWS = frame(
    [
        decision(0, "mini-2", prompt="a red circle"),
        decision(1, "mini-1", prompt="two blue squares"),
        decision(2, prompt="a failure", status=500),
        decision(3, prompt=None),
        decision(4, prompt="pinned", qualities=[]),
    ]
)


@pytest.fixture(scope="module")
def pool(miniature_pool: Path) -> Pool:
    return load_pool(str(miniature_pool), miniature_pool.parent)


def params_of(**settings: object) -> Params:
    tree = {
        "metric": "sharpness",
        "generate": {"device": "cpu"},
        "label": {
            "composites": {"both": {"kind": "sum", "terms": {"sharpness": {"scale": [0, 2]}}}}
        },
        "monitor": {"audit": settings},
    }
    return parse_params(tree, "params.yaml")


@pytest.fixture(scope="module")
def audited(pool: Pool):
    return audit(auditable(ROWS), pool, params_of(seed=3))


def test_only_successful_requests_with_prompt_and_predictions_are_audited():
    assert auditable(ROWS)["request_id"].tolist() == ["request-0", "request-1"]


def test_the_selected_candidate_and_another_one_are_generated(audited):
    assert audited.groupby("request_id")["candidate"].apply(list).to_dict() == {
        "request-0": ["mini-2", "mini-1"],
        "request-1": ["mini-1", "mini-2"],
    }
    assert audited["selected"].tolist() == [True, False, True, False]
    qualities = {"mini-1": 0.55, "mini-2": 0.6, "mini-4": 0.7}
    expected = audited["candidate"].map(qualities).tolist()
    assert audited["predicted"].tolist() == pytest.approx(expected)
    assert set(audited["seed"]) == {3} and set(audited["metric"]) == {"sharpness"}


def test_the_other_candidates_take_turns(pool):
    row = decision(0, "mini-2") | {"qualities": {"mini-1": 0.5, "mini-2": 0.6, "mini-4": 0.7}}
    drawn = [_candidates(row | {"request_id": str(i)}, pool, []) for i in range(100)]
    assert {names[0] for names in drawn} == {"mini-2"}
    assert 35 <= sum(names == ["mini-2", "mini-1"] for names in drawn) <= 65
    assert drawn == [_candidates(row | {"request_id": str(i)}, pool, []) for i in range(100)]
    alone = row | {"qualities": {"mini-2": 0.6}}
    assert _candidates(alone, pool, []) == ["mini-2"]


def test_the_scores_are_those_of_the_score_command(pool, tmp_path):
    from PIL import Image

    every = audit(auditable(ROWS)[:1], pool, params_of(seed=3, candidates=["mini-1", "mini-4"]))
    scores = every.set_index("candidate")["score"]

    cache = GeneratorCache(pool, "cpu", ["mini"])
    cache.prepare()
    image = cache.get("mini").generate(["a red circle"], pool.candidate("mini-4"), [3])[0]
    Image.fromarray(image).save(tmp_path / "image.png")
    row = score_rows([tmp_path / "image.png"], "a red circle", ["sharpness"], Params())[0]
    assert scores["mini-4"] == pytest.approx(row["value"], rel=1e-6)


def test_named_candidates_and_composites(pool):
    params = params_of(candidates=["mini-1"]).model_copy(update={"metric": "both"})
    table = audit(auditable(ROWS), pool, params)
    assert table["candidate"].tolist() == ["mini-1", "mini-1"]
    assert ((table["score"] >= 0) & (table["score"] <= 1)).all()


def test_problems_are_reported(pool):
    with pytest.raises(InputError, match=r"audit\.candidates: .* no candidate 'mini-3'"):
        audit(auditable(ROWS), pool, params_of(candidates=["mini-3"]))
    reference = params_of().model_copy(update={"metric": "lpips"})
    with pytest.raises(InputError, match="'lpips' needs reference images"):
        audit(auditable(ROWS), pool, reference)


def test_no_requests_give_no_rows(pool):
    assert list(audit(ROWS.iloc[:0], pool, params_of()).columns) == AUDITS.names


def test_the_table_has_each_image_once(audited, tmp_path):
    path = tmp_path / "data" / "audits.parquet"
    assert len(read_audits(path)) == 0 and len(add_audits(path, audited.iloc[:0])) == 0
    assert not path.exists()
    assert len(add_audits(path, audited.iloc[3:])) == 1
    table = add_audits(path, audited)
    assert len(table) == 4 and table["time"].is_monotonic_increasing
    stored = read_audits(path)
    assert stored["request_id"].tolist() == table["request_id"].tolist()
    np.testing.assert_array_equal(stored["score"], table["score"])
    path.write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"audits.parquet: the file is damaged"):
        read_audits(path)
