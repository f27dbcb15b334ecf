"""Data that are in order pass every expectation; each way of spoiling them fails the one that is
there for it, on the row spoiled.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from catimage.data.prompts.identity import prompt_id, splits_of
from catimage.errors import InputError
from catimage.params import parse_params
from catimage.validation import suites as validation
from catimage.validation.frames import frames
from catimage.validation.runner import run
from tests.gated import of, tables

EXPECTATIONS = Path(__file__).parents[2] / "expectations"
PARAMETERS = {
    "candidates": ["mini-1", "mini-2"],
    "metrics": ["clip_score", "sharpness"],
    "seeds": [0, 1],
    "max_similarity": 0.75,
}
COUNTS = {"prompts": 16, "splits": 2, "candidates": 17, "scores": 19, "metrics": 2, "labels": 2}
IMPORT = {"imported": {"import": {}}, "images": {"import": {"kind": "images"}}, "generated": {}}


def params(kind, **more):
    return parse_params({**IMPORT[kind], **more}, "here")


def outcome(frame, spoiled, tmp_path, kind="generated", **more):
    """What the suite for one frame says."""
    made = frames(
        params=params(kind, **more),
        **{**spoiled, "embeddings": spoiled["embeddings"] if kind == "generated" else None},
    )
    suite = validation.suites(kind)[frame]
    return run({frame: suite}, made, PARAMETERS, tmp_path / "docs")


@pytest.mark.parametrize("kind", validation.KINDS)
def test_data_in_order_pass_every_expectation(kind, tmp_path, capsys):
    given = tables()
    made = frames(
        params=params(kind),
        **{**given, "embeddings": given["embeddings"] if kind == "generated" else None},
    )
    result = run(validation.suites(kind), made, PARAMETERS, tmp_path / "docs")
    expected = {f"{kind}_{name}": n for name, n in COUNTS.items()}
    if kind == "generated":
        expected = {**expected, "generated_scores": 23, "generated_similarity": 2}
    if kind == "images":
        expected["images_scores"] = 22
    assert result.failures == []
    assert result.evaluated == result.successful == expected
    assert (tmp_path / "docs" / "index.html").exists()
    assert len(list((tmp_path / "docs" / "validations").rglob("*.html"))) == len(expected)
    assert capsys.readouterr() == ("", "")


def put(table, column, value, row=5):
    def spoil(t):
        t[table][column] = t[table][column].astype(object) if value is None else t[table][column]
        t[table].loc[row, column] = value

    return spoil


def double(table, row=5):
    def spoil(t):
        t[table] = pd.concat([t[table], t[table].iloc[[row]]], ignore_index=True)

    return spoil


def lose(table, where):
    def spoil(t):
        t[table] = t[table].query(where).reset_index(drop=True)

    return spoil


def alike(t):
    t["embeddings"].pooled[7] = t["embeddings"].pooled[3]


def not_embedded(t):
    e = t["embeddings"]
    t["embeddings"] = e.take([i for i in e.prompt_ids if i != of(5)])


SPOILED = {
    "prompts": [
        (double("prompts", 5), "expect_column_values_to_be_unique(prompt_id)", of(5)),
        (
            put("prompts", "prompt", " a scene number 6 ", 7),
            "expect_column_pair_values_to_be_equal(prompt_id, id_of_text)",
            of(7),
        ),
        (put("prompts", "split", "holdout", 8), "expect_column_values_to_be_in_set(split)", of(8)),
        (put("prompts", "prompt", None, 9), "expect_column_values_to_not_be_null(prompt)", of(9)),
        (
            put("prompts", "prompt", "x" * 100_000, 10),
            "expect_column_value_lengths_to_be_between(prompt)",
            of(10),
        ),
    ],
    "splits": [
        (
            lose("prompts", "split != 'test'"),
            "expect_column_values_to_be_between(prompts)",
            "split=test",
        )
    ],
    "candidates": [
        (
            put("candidates", "cost", -1.0, 0),
            "expect_column_values_to_be_between(cost)",
            "candidate=mini-1, unit=tflops",
        ),
        (
            put("candidates", "cost", np.nan, 2),
            "expect_column_values_to_not_be_null(cost)",
            "candidate=mini-1, unit=seconds",
        ),
        (
            put("candidates", "steps", 0, 3),
            "expect_column_values_to_be_between(steps)",
            "candidate=mini-2, unit=seconds",
        ),
        (
            double("candidates", 3),
            "expect_compound_columns_to_be_unique(candidate, unit)",
            "candidate=mini-2, unit=seconds",
        ),
        (
            lose("candidates", "steps != 2"),
            "expect_column_values_to_be_between(costs_in_routed_unit)",
            "candidate=mini-2",
        ),
    ],
    "scores": [
        (
            put("scores", "value", np.nan, 5),
            "expect_column_values_to_not_be_null(value)",
            f"{of(0)}, candidate=mini-2, seed=0",
        ),
        (put("scores", "value", np.inf, 13), "expect_column_values_to_be_between(value)", of(1)),
        (put("scores", "value", -0.5, 21), "(value, lowest)", of(2)),
        (put("scores", "value", 1.5, 29), "(highest, value)", of(3)),
        (
            put("scores", "candidate", "mini-3", 37),
            "expect_column_values_to_be_in_set(candidate)",
            f"candidate=mini-3, prompt_id={of(4)}",
        ),
        (
            put("scores", "metric", "nima", 45),
            "expect_column_values_to_be_in_set(metric)",
            "metric=nima",
        ),
        (put("scores", "seed", 7, 53), "expect_column_values_to_be_in_set(seed)", "seed=7"),
        (
            put("scores", "prompt_id", "stranger", 61),
            "expect_column_values_to_not_be_null(split)",
            "prompt_id=stranger",
        ),
        (
            put("scores", "version", "2", 69),
            "expect_column_values_to_be_between(versions_of_metric)",
            "metric=sharpness",
        ),
        (
            double("scores", 77),
            "expect_compound_columns_to_be_unique(prompt_id, candidate, seed, metric)",
            of(9),
        ),
    ],
    "similarity": [
        (alike, "expect_column_values_to_be_between(max_similarity)", f"{of(7)}, nearest={of(3)}"),
        (not_embedded, "expect_column_values_to_not_be_null(max_similarity)", of(5)),
    ],
}


@pytest.mark.parametrize("frame", SPOILED)
def test_each_way_of_spoiling_fails_the_expectation_that_is_there_for_it(frame, tmp_path):
    given = tables()
    for spoil, _, _ in SPOILED[frame]:
        spoil(given)
    failures = outcome(frame, given, tmp_path).failures
    for _, rule, row in SPOILED[frame]:
        (failure,) = [f for f in failures if rule in f]
        assert row in failure


def test_other_columns_and_types_fail(tmp_path):
    given = tables()
    given["candidates"] = (
        given["candidates"].rename(columns={"generator": "maker"}).astype({"steps": float})
    )
    failures = outcome("candidates", given, tmp_path).failures
    assert any("expect_table_columns_to_match_ordered_list" in f and "maker" in f for f in failures)
    assert any("expect_column_values_to_be_of_type(steps), found float64" in f for f in failures)
    assert any(
        "expect_column_values_to_not_be_null(generator) could not be evaluated" in f
        for f in failures
    )


def test_a_prompt_in_two_splits_leaks(tmp_path):
    given = tables()
    twin = (
        given["prompts"]
        .iloc[[5]]
        .assign(split="test" if given["prompts"]["split"][5] != "test" else "val")
    )
    given["prompts"] = pd.concat([given["prompts"], twin], ignore_index=True)
    failures = outcome("prompts", given, tmp_path).failures
    assert any(
        "expect_column_values_to_be_between(splits_of_text) on 2 rows" in f and of(5) in f
        for f in failures
    )
    assert any("(split, split_of_id) on 1 rows" in f for f in failures)


@pytest.mark.parametrize("kind", validation.KINDS)
def test_spellings_of_one_prompt_in_two_splits_leak(kind, tmp_path):
    given = tables()
    texts = [*given["prompts"]["prompt"], "A scene, number 5."]
    ids = [prompt_id(text) for text in texts]
    given["prompts"] = pd.DataFrame(
        {"prompt_id": ids, "prompt": texts, "source": "scenes", "split": splits_of(texts)}
    )
    assert outcome("prompts", given, tmp_path, kind).failures == []
    given["prompts"].loc[40, "split"] = "test" if given["prompts"]["split"][5] != "test" else "val"
    failures = outcome("prompts", given, tmp_path, kind).failures
    assert any(
        "expect_column_values_to_be_between(splits_of_text) on 2 rows" in f and of(5) in f
        for f in failures
    )


@pytest.mark.parametrize(
    ("complete", "lost", "ok"),
    [
        (True, {"metric": "clip_score", "candidate": "mini-1", "seed": 0}, False),
        (False, {"metric": "clip_score", "candidate": "mini-1", "seed": 0}, True),
        (False, {"metric": "clip_score", "candidate": "mini-1"}, True),
        (False, {"metric": "sharpness", "candidate": "mini-1"}, True),
        (True, {"metric": "sharpness", "candidate": "mini-1"}, False),
        (True, {"metric": "sharpness"}, False),
        (False, {"metric": "clip_score"}, False),
    ],
)
def test_holes_are_allowed_where_the_parameters_say_so(complete, lost, ok, tmp_path):
    given = tables()
    mask = given["scores"]["prompt_id"] == of(5)
    for column, value in lost.items():
        mask &= given["scores"][column] == value
    given["scores"] = given["scores"][~mask].reset_index(drop=True)
    failures = outcome("labels", given, tmp_path, validate={"complete_labels": complete}).failures
    assert (failures == []) == ok
    assert all(of(5) in f for f in failures)


def test_imported_scores_keep_their_own_scale_and_seeds(tmp_path):
    given = tables()
    given["scores"]["value"] += 30
    given["scores"]["seed"] += 100
    assert outcome("scores", given, tmp_path, "imported").failures == []
    assert outcome("labels", given, tmp_path, "imported").failures == []
    assert len(outcome("scores", given, tmp_path).failures) == 2


def test_imported_images_keep_their_own_seeds_and_have_our_metrics(tmp_path):
    given = tables()
    given["scores"]["seed"] += 100
    assert outcome("scores", given, tmp_path, "images").failures == []
    assert outcome("labels", given, tmp_path, "images").failures == []
    given["scores"].loc[3, ["metric", "value"]] = "nima", 1e9
    given["scores"].loc[5, "value"] = -2.0
    failures = sorted(outcome("scores", given, tmp_path, "images").failures)
    assert len(failures) == 2
    assert (
        "(value, lowest)" in failures[0]
        and "expect_column_values_to_be_in_set(metric)" in failures[1]
    )


@pytest.mark.parametrize("kind", validation.KINDS)
@pytest.mark.parametrize("noise", [0, 1e-9])
def test_a_metric_that_is_the_same_for_every_image_fails(kind, noise, tmp_path):
    given = tables()
    dull = given["scores"]["metric"] == "sharpness"
    given["scores"].loc[dull, "value"] = 0.1 + noise * (np.arange(dull.sum()) % 2)
    (failure,) = outcome("metrics", given, tmp_path, kind).failures
    assert "expect_column_values_to_be_between(spread) on 1 rows, such as spread=" in failure
    assert "metric=sharpness" in failure
    given["scores"].loc[dull, "value"] = 0.0
    assert len(outcome("metrics", given, tmp_path, kind).failures) == 1


def compared(monkeypatch, values, references):
    """How many images are better than their reference, of a metric that has one and is lower the
    better; values by candidate.
    """
    monkeypatch.setattr("catimage.metrics.registry.METRICS", {"distance": f"{__name__}:Distance"})
    given = tables()
    given["scores"] = given["scores"].query("metric == 'clip_score'").assign(metric="distance")
    given["scores"]["value"] = (
        given["scores"]["candidate"].map(values) + given["scores"]["seed"] / 1000
    )
    return frames(params=params("generated"), references=references, **given)["metrics"]


class Distance:
    name, range, higher_is_better, needs_reference = "distance", (0.0, 1.0), False, True


def test_no_image_is_better_than_its_reference_unless_the_direction_is_wrong(monkeypatch):
    both = {"mini-1": "mini-2", "mini-2": "mini-2"}
    assert compared(monkeypatch, {"mini-1": 0.3, "mini-2": 0.0}, both)[
        "better_than_reference"
    ].tolist() == [0]
    assert compared(monkeypatch, {"mini-1": 0.3, "mini-2": 0.3}, both)[
        "better_than_reference"
    ].tolist() == [0]
    wrong = compared(monkeypatch, {"mini-1": 0.3, "mini-2": 0.4}, both)
    assert wrong["better_than_reference"].tolist() == [40 * 2]
    monkeypatch.setattr(Distance, "higher_is_better", True)
    assert compared(monkeypatch, {"mini-1": 0.3, "mini-2": 0.0}, both)[
        "better_than_reference"
    ].tolist() == [40 * 2]


def test_without_a_reference_or_one_that_is_compared_with_itself_nothing_is_said(monkeypatch):
    for references in ({}, None, {"mini-1": "mini-2", "mini-2": "mini-1"}):
        assert compared(monkeypatch, {"mini-1": 0.3, "mini-2": 0.4}, references)[
            "better_than_reference"
        ].tolist() == [0]


def test_the_exported_suites_are_those_of_the_code(tmp_path):
    validation.export(tmp_path / "suites")
    exported = {p.name: p.read_text() for p in (tmp_path / "suites").iterdir()}
    committed = {p.name: p.read_text() for p in (EXPECTATIONS / "suites").glob("*.json")}
    assert committed == exported, "run 'python -m catimage.validation.suites' in the repository"


def test_great_expectations_finds_the_suites_in_its_own_context(tmp_path):
    import great_expectations as gx

    shutil.copytree(EXPECTATIONS, tmp_path / "gx", ignore=shutil.ignore_patterns("uncommitted"))
    context = gx.get_context(mode="file", context_root_dir=tmp_path / "gx")
    found = {suite.name: len(suite.expectations) for suite in context.suites.all()}
    ours = {
        s.name: len(s.expectations)
        for kind in validation.KINDS
        for s in validation.suites(kind).values()
    }
    assert found == ours
    assert sum(ours.values()) == 183


def test_a_suite_with_a_rule_that_is_none_is_refused(tmp_path):
    validation.export(tmp_path)
    path = tmp_path / "imported_labels.json"
    tree = json.loads(path.read_text())
    tree["expectations"][0]["type"] = "expect_magic"
    path.write_text(json.dumps(tree))
    with pytest.raises(InputError, match="no rule named expect_magic"):
        validation.load(tmp_path, "imported")
    path.write_text("{}")
    with pytest.raises(InputError, match="cannot be read as a suite"):
        validation.load(tmp_path, "imported")
    assert set(validation.load(tmp_path, "generated")) == {*COUNTS, "similarity"}


def test_a_parameter_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="suite generated_scores cannot be run"):
        run(
            {"scores": validation.suites("generated")["scores"]},
            frames(params=params("generated"), **tables()),
            {},
            tmp_path / "docs",
        )
