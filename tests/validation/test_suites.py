"""Tests that valid data meet every expectation, and that invalid rows fail an expectation."""

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
from catimage.validation.frames import Requirements, ValidationTables, frames
from catimage.validation.runner import run
from tests.valid_tables import id_of_prompt, valid_tables

EXPECTATIONS = Path(__file__).parents[2] / "expectations"
PARAMETERS = {
    "candidates": ["mini-1", "mini-2"],
    "metrics": ["clip_score", "sharpness"],
    "seeds": [0, 1],
    "max_similarity": 0.75,
}
EXPECTATION_COUNTS = {
    "prompts": 16,
    "splits": 2,
    "candidates": 17,
    "scores": 19,
    "metrics": 2,
    "labels": 2,
}
IMPORT_SECTIONS = {
    "imported": {"import": {}},
    "images": {"import": {"kind": "images"}},
    "generated": {},
}


def params(kind, **sections):
    """Return the parameters of a workspace with a kind of data."""
    return parse_params({**IMPORT_SECTIONS[kind], **sections}, "here")


def frames_of(data, kind, references=None, **sections):
    embeddings = data["embeddings"] if kind == "generated" else None
    tables = ValidationTables(**{**data, "embeddings": embeddings})
    return frames(tables, Requirements.of(params(kind, **sections), references))


def outcome(frame, data, tmp_path, kind="generated", **sections):
    """Run the suite of one frame."""
    suite = validation.suites(kind)[frame]
    return run({frame: suite}, frames_of(data, kind, **sections), PARAMETERS, tmp_path / "docs")


@pytest.mark.parametrize("kind", validation.SUITE_KINDS)
def test_valid_data_pass_every_expectation(kind, tmp_path, capsys):
    frames_by_name = frames_of(valid_tables(), kind)
    result = run(validation.suites(kind), frames_by_name, PARAMETERS, tmp_path / "docs")
    expected = {f"{kind}_{name}": n for name, n in EXPECTATION_COUNTS.items()}
    if kind == "generated":
        expected = {**expected, "generated_scores": 23, "generated_similarity": 2}
    if kind == "images":
        expected["images_scores"] = 22
    assert result.failures == []
    assert result.evaluated == result.successful == expected
    assert (tmp_path / "docs" / "index.html").exists()
    assert len(list((tmp_path / "docs" / "validations").rglob("*.html"))) == len(expected)
    assert capsys.readouterr() == ("", "")


def set_value(name, column, value, row=5):
    """Return a change of the tables that sets a value."""

    def change(tables):
        if value is None:
            tables[name][column] = tables[name][column].astype(object)
        tables[name].loc[row, column] = value

    return change


def duplicate(name, row=5):
    """Return a change of the tables that appends a copy of a row."""

    def change(tables):
        table = tables[name]
        tables[name] = pd.concat([table, table.iloc[[row]]], ignore_index=True)

    return change


def keep_only(name, condition):
    """Return a change of the tables that removes the rows that do not meet a condition."""

    def change(tables):
        tables[name] = tables[name].query(condition).reset_index(drop=True)

    return change


def set_equal_embeddings(tables):
    tables["embeddings"].pooled[7] = tables["embeddings"].pooled[3]


def remove_embedding(tables):
    embeddings = tables["embeddings"]
    ids = [i for i in embeddings.prompt_ids if i != id_of_prompt(5)]
    tables["embeddings"] = embeddings.take(ids)


INVALID = {
    "prompts": [
        (duplicate("prompts", 5), "expect_column_values_to_be_unique(prompt_id)", id_of_prompt(5)),
        (
            set_value("prompts", "prompt", " a scene number 6 ", 7),
            "expect_column_pair_values_to_be_equal(prompt_id, id_of_text)",
            id_of_prompt(7),
        ),
        (
            set_value("prompts", "split", "holdout", 8),
            "expect_column_values_to_be_in_set(split)",
            id_of_prompt(8),
        ),
        (
            set_value("prompts", "prompt", None, 9),
            "expect_column_values_to_not_be_null(prompt)",
            id_of_prompt(9),
        ),
        (
            set_value("prompts", "prompt", "x" * 100_000, 10),
            "expect_column_value_lengths_to_be_between(prompt)",
            id_of_prompt(10),
        ),
    ],
    "splits": [
        (
            keep_only("prompts", "split != 'test'"),
            "expect_column_pair_values_a_to_be_greater_than_b(prompts, prompts_needed)",
            "split=test",
        )
    ],
    "candidates": [
        (
            set_value("candidates", "cost", -1.0, 0),
            "expect_column_values_to_be_between(cost)",
            "candidate=mini-1, unit=tflops",
        ),
        (
            set_value("candidates", "cost", np.nan, 2),
            "expect_column_values_to_not_be_null(cost)",
            "candidate=mini-1, unit=seconds",
        ),
        (
            set_value("candidates", "steps", 0, 3),
            "expect_column_values_to_be_between(steps)",
            "candidate=mini-2, unit=seconds",
        ),
        (
            duplicate("candidates", 3),
            "expect_compound_columns_to_be_unique(candidate, unit)",
            "candidate=mini-2, unit=seconds",
        ),
        (
            keep_only("candidates", "steps != 2"),
            "expect_column_values_to_be_between(costs_in_routed_unit)",
            "candidate=mini-2",
        ),
    ],
    "scores": [
        (
            set_value("scores", "value", np.nan, 5),
            "expect_column_values_to_not_be_null(value)",
            f"{id_of_prompt(0)}, candidate=mini-2, seed=0",
        ),
        (
            set_value("scores", "value", np.inf, 13),
            "expect_column_values_to_be_between(value)",
            id_of_prompt(1),
        ),
        (set_value("scores", "value", -0.5, 21), "(value, lowest)", id_of_prompt(2)),
        (set_value("scores", "value", 1.5, 29), "(highest, value)", id_of_prompt(3)),
        (
            set_value("scores", "candidate", "mini-3", 37),
            "expect_column_values_to_be_in_set(candidate)",
            f"candidate=mini-3, prompt_id={id_of_prompt(4)}",
        ),
        (
            set_value("scores", "metric", "nima", 45),
            "expect_column_values_to_be_in_set(metric)",
            "metric=nima",
        ),
        (set_value("scores", "seed", 7, 53), "expect_column_values_to_be_in_set(seed)", "seed=7"),
        (
            set_value("scores", "prompt_id", "unknown", 61),
            "expect_column_values_to_not_be_null(split)",
            "prompt_id=unknown",
        ),
        (
            set_value("scores", "version", "2", 69),
            "expect_column_values_to_be_between(versions_of_metric)",
            "metric=sharpness",
        ),
        (
            duplicate("scores", 77),
            "expect_compound_columns_to_be_unique(prompt_id, candidate, seed, metric)",
            id_of_prompt(9),
        ),
    ],
    "similarity": [
        (
            set_equal_embeddings,
            "expect_column_values_to_be_between(max_similarity)",
            f"{id_of_prompt(7)}, nearest={id_of_prompt(3)}",
        ),
        (remove_embedding, "expect_column_values_to_not_be_null(max_similarity)", id_of_prompt(5)),
    ],
}


@pytest.mark.parametrize("frame", INVALID)
def test_each_invalid_row_fails_the_expectation_that_covers_it(frame, tmp_path):
    data = valid_tables()
    for change, _, _ in INVALID[frame]:
        change(data)
    failures = outcome(frame, data, tmp_path).failures
    for _, expectation, row in INVALID[frame]:
        (failure,) = [f for f in failures if expectation in f]
        assert row in failure


def test_an_unknown_column_and_a_wrong_type_fail(tmp_path):
    data = valid_tables()
    data["candidates"] = (
        data["candidates"].rename(columns={"generator": "model"}).astype({"steps": float})
    )
    failures = outcome("candidates", data, tmp_path).failures
    assert any("expect_table_columns_to_match_ordered_list" in f and "model" in f for f in failures)
    assert any("expect_column_values_to_be_of_type(steps), found float64" in f for f in failures)
    assert any(
        "expect_column_values_to_not_be_null(generator) could not be evaluated" in f
        for f in failures
    )


def test_a_prompt_in_two_splits_fails(tmp_path):
    data = valid_tables()
    copy = (
        data["prompts"]
        .iloc[[5]]
        .assign(split="test" if data["prompts"]["split"][5] != "test" else "val")
    )
    data["prompts"] = pd.concat([data["prompts"], copy], ignore_index=True)
    failures = outcome("prompts", data, tmp_path).failures
    assert any(
        "expect_column_values_to_be_between(splits_of_text) on 2 rows" in f and id_of_prompt(5) in f
        for f in failures
    )
    assert any("(split, split_of_id) on 1 rows" in f for f in failures)


@pytest.mark.parametrize("kind", validation.SUITE_KINDS)
def test_spellings_of_one_prompt_in_two_splits_fail(kind, tmp_path):
    data = valid_tables()
    texts = [*data["prompts"]["prompt"], "A scene, number 5."]
    ids = [prompt_id(text) for text in texts]
    data["prompts"] = pd.DataFrame(
        {"prompt_id": ids, "prompt": texts, "source": "scenes", "split": splits_of(texts, 0.1)}
    )
    assert outcome("prompts", data, tmp_path, kind).failures == []
    data["prompts"].loc[40, "split"] = "test" if data["prompts"]["split"][5] != "test" else "val"
    failures = outcome("prompts", data, tmp_path, kind).failures
    assert any(
        "expect_column_values_to_be_between(splits_of_text) on 2 rows" in f and id_of_prompt(5) in f
        for f in failures
    )


@pytest.mark.parametrize(
    ("complete_labels", "removed", "is_valid"),
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
def test_missing_labels_are_allowed_unless_complete_labels_is_set(
    complete_labels, removed, is_valid, tmp_path
):
    data = valid_tables()
    mask = data["scores"]["prompt_id"] == id_of_prompt(5)
    for column, value in removed.items():
        mask &= data["scores"][column] == value
    data["scores"] = data["scores"][~mask].reset_index(drop=True)
    failures = outcome(
        "labels", data, tmp_path, validate={"complete_labels": complete_labels}
    ).failures
    assert (failures == []) == is_valid
    assert all(id_of_prompt(5) in f for f in failures)


def test_imported_scores_may_have_any_range_and_seeds(tmp_path):
    data = valid_tables()
    data["scores"]["value"] += 30
    data["scores"]["seed"] += 100
    assert outcome("scores", data, tmp_path, "imported").failures == []
    assert outcome("labels", data, tmp_path, "imported").failures == []
    assert len(outcome("scores", data, tmp_path).failures) == 2


def test_imported_images_may_have_any_seeds_and_need_declared_metrics(tmp_path):
    data = valid_tables()
    data["scores"]["seed"] += 100
    assert outcome("scores", data, tmp_path, "images").failures == []
    assert outcome("labels", data, tmp_path, "images").failures == []
    data["scores"].loc[3, ["metric", "value"]] = "nima", 1e9
    data["scores"].loc[5, "value"] = -2.0
    failures = sorted(outcome("scores", data, tmp_path, "images").failures)
    assert len(failures) == 2
    assert (
        "(value, lowest)" in failures[0]
        and "expect_column_values_to_be_in_set(metric)" in failures[1]
    )


@pytest.mark.parametrize("kind", validation.SUITE_KINDS)
@pytest.mark.parametrize("noise", [0, 1e-9])
def test_a_metric_with_equal_scores_for_all_images_fails(kind, noise, tmp_path):
    data = valid_tables()
    constant = data["scores"]["metric"] == "sharpness"
    data["scores"].loc[constant, "value"] = 0.1 + noise * (np.arange(constant.sum()) % 2)
    (failure,) = outcome("metrics", data, tmp_path, kind).failures
    assert "expect_column_values_to_be_between(spread) on 1 rows, such as spread=" in failure
    assert "metric=sharpness" in failure
    data["scores"].loc[constant, "value"] = 0.0
    assert len(outcome("metrics", data, tmp_path, kind).failures) == 1


def metrics_frame_of_distance(monkeypatch, values, references):
    """Return the frame ``metrics`` of scores by ``Distance``, given the score of each candidate."""
    monkeypatch.setattr("catimage.metrics.registry.METRICS", {"distance": f"{__name__}:Distance"})
    data = valid_tables()
    data["scores"] = data["scores"].query("metric == 'clip_score'").assign(metric="distance")
    data["scores"]["value"] = (
        data["scores"]["candidate"].map(values) + data["scores"]["seed"] / 1000
    )
    return frames_of(data, "generated", references)["metrics"]


class Distance:
    """The declaration of a lower-is-better metric with a reference image."""

    name, range, higher_is_better, needs_reference = "distance", (0.0, 1.0), False, True


def test_images_better_than_their_reference_reveal_a_wrong_direction(monkeypatch):
    references = {"mini-1": "mini-2", "mini-2": "mini-2"}
    assert metrics_frame_of_distance(monkeypatch, {"mini-1": 0.3, "mini-2": 0.0}, references)[
        "better_than_reference"
    ].tolist() == [0]
    assert metrics_frame_of_distance(monkeypatch, {"mini-1": 0.3, "mini-2": 0.3}, references)[
        "better_than_reference"
    ].tolist() == [0]
    wrong_frame = metrics_frame_of_distance(monkeypatch, {"mini-1": 0.3, "mini-2": 0.4}, references)
    assert wrong_frame["better_than_reference"].tolist() == [40 * 2]
    monkeypatch.setattr(Distance, "higher_is_better", True)
    assert metrics_frame_of_distance(monkeypatch, {"mini-1": 0.3, "mini-2": 0.0}, references)[
        "better_than_reference"
    ].tolist() == [40 * 2]


def test_directions_are_only_checked_if_references_are_compared_with_themselves(monkeypatch):
    for references in ({}, None, {"mini-1": "mini-2", "mini-2": "mini-1"}):
        assert metrics_frame_of_distance(monkeypatch, {"mini-1": 0.3, "mini-2": 0.4}, references)[
            "better_than_reference"
        ].tolist() == [0]


def test_the_exported_suites_equal_those_of_the_code(tmp_path):
    validation.export(tmp_path / "suites")
    exported = {p.name: p.read_text() for p in (tmp_path / "suites").iterdir()}
    committed = {p.name: p.read_text() for p in (EXPECTATIONS / "suites").glob("*.json")}
    assert committed == exported, "run 'python -m catimage.validation.suites' in the repository"


def test_great_expectations_loads_the_exported_suites(tmp_path):
    import great_expectations as gx

    shutil.copytree(EXPECTATIONS, tmp_path / "gx", ignore=shutil.ignore_patterns("uncommitted"))
    context = gx.get_context(mode="file", context_root_dir=tmp_path / "gx")
    loaded = {suite.name: len(suite.expectations) for suite in context.suites.all()}
    expected = {
        s.name: len(s.expectations)
        for kind in validation.SUITE_KINDS
        for s in validation.suites(kind).values()
    }
    assert loaded == expected
    assert sum(expected.values()) == 183


def test_an_unknown_expectation_in_a_suite_is_refused(tmp_path):
    validation.export(tmp_path)
    path = tmp_path / "imported_labels.json"
    tree = json.loads(path.read_text())
    tree["expectations"][0]["type"] = "expect_magic"
    path.write_text(json.dumps(tree))
    with pytest.raises(InputError, match=r"unknown expectation expect_magic\. Correct or remove"):
        validation.load(tmp_path, "imported")
    path.write_text("{}")
    with pytest.raises(InputError, match="not a valid suite"):
        validation.load(tmp_path, "imported")
    assert set(validation.load(tmp_path, "generated")) == {*EXPECTATION_COUNTS, "similarity"}


def test_a_missing_parameter_of_a_suite_is_refused(tmp_path):
    with pytest.raises(InputError, match="suite generated_scores: cannot be run"):
        run(
            {"scores": validation.suites("generated")["scores"]},
            frames_of(valid_tables(), "generated"),
            {},
            tmp_path / "docs",
        )
