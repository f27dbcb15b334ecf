"""Tests that valid data meet every expectation, and that invalid rows fail an expectation."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from great_expectations.core.expectation_validation_result import ExpectationValidationResult

from catimage.data.prompts.identity import prompt_id, splits_of
from catimage.errors import InputError
from catimage.params import parse_params
from catimage.validation import suites as validation
from catimage.validation.failures import describe
from catimage.validation.frames import KEYS, Requirements, ValidationTables, frames
from catimage.validation.messages import MESSAGES, SCHEMA_EXPECTATIONS
from catimage.validation.runner import failed_expectation, run
from tests.valid_tables import id_of_prompt, valid_tables

EXPECTATIONS = Path(__file__).parents[2] / "expectations"
PARAMETERS = {
    "candidates": ["mini-1", "mini-2"],
    "metrics": ["clip_score", "sharpness"],
    "seeds": [0, 1],
    "max_similarity": 0.75,
    "max_blank_share": 0.1,
    "max_shift": 0.25,
    "max_decline": 1.0,
}
EXPECTATION_COUNTS = {
    "prompts": 16,
    "splits": 2,
    "candidates": 17,
    "scores": 19,
    "metrics": 2,
    "labels": 2,
    "history": 2,
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


def sentences(frame, data, tmp_path, kind="generated", **sections):
    """Run the suite of one frame, and return the sentences about the failed expectations."""
    suite = validation.suites(kind)[frame]
    frames_by_name = frames_of(data, kind, **sections)
    failures = run({frame: suite}, frames_by_name, PARAMETERS, tmp_path / "docs").failures
    gate_share = params(kind, **sections).gate_share
    return [sentence(describe(failed, kind, gate_share)) for failed in failures]


def sentence(problem):
    return f"{problem.file}: {problem.problem}. {problem.fix}."


@pytest.mark.parametrize("kind", validation.SUITE_KINDS)
def test_valid_data_pass_every_expectation(kind, tmp_path, capsys):
    frames_by_name = frames_of(valid_tables(), kind)
    result = run(validation.suites(kind), frames_by_name, PARAMETERS, tmp_path / "docs")
    expected = {f"{kind}_{name}": n for name, n in EXPECTATION_COUNTS.items()}
    if kind == "generated":
        expected |= {"generated_scores": 23, "generated_similarity": 2, "generated_images": 2}
    if kind == "images":
        expected |= {"images_scores": 22, "images_images": 2}
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
        (duplicate("prompts", 5), "the same prompt_id in 2 rows", id_of_prompt(5)),
        (
            set_value("prompts", "prompt", " a scene number 6 ", 7),
            "the prompt_id is not the hash of the prompt in",
            id_of_prompt(7),
        ),
        (
            set_value("prompts", "split", "holdout", 8),
            "unknown splits in 1 row",
            id_of_prompt(8),
        ),
        (
            set_value("prompts", "prompt", None, 9),
            "the column prompt is empty in 1 row",
            id_of_prompt(9),
        ),
        (
            set_value("prompts", "prompt", "x" * 100_000, 10),
            "empty or has 100,000 or more characters in 1 row",
            id_of_prompt(10),
        ),
    ],
    "splits": [
        (
            keep_only("prompts", "split != 'test'"),
            "too few prompts: 70/10/10/10 leaves none for test. Add prompts: about 100 are needed.",
            "",
        )
    ],
    "candidates": [
        (
            set_value("candidates", "cost", -1.0, 0),
            "the cost is negative or infinite in 1 row",
            "candidate=mini-1, unit=tflops",
        ),
        (
            set_value("candidates", "cost", np.nan, 2),
            "the column cost is empty in 1 row",
            "candidate=mini-1, unit=seconds",
        ),
        (
            set_value("candidates", "steps", 0, 3),
            "the number of steps is too small in 2 rows",
            "candidate=mini-2, unit=seconds",
        ),
        (
            duplicate("candidates", 3),
            "several costs of a candidate in the same unit in 2 rows",
            "candidate=mini-2, unit=seconds",
        ),
        (
            keep_only("candidates", "steps != 2"),
            "no single cost in the unit of the parameter cost_unit",
            "candidate=mini-2",
        ),
    ],
    "scores": [
        (
            set_value("scores", "value", np.nan, 5),
            "the column value is empty in 1 row",
            f"{id_of_prompt(0)}, candidate=mini-2, seed=0",
        ),
        (
            set_value("scores", "value", np.inf, 13),
            "infinite scores in 1 row",
            id_of_prompt(1),
        ),
        (
            set_value("scores", "value", -0.5, 21),
            "scores below the range of their metric",
            id_of_prompt(2),
        ),
        (
            set_value("scores", "value", 1.5, 29),
            "scores above the range of their metric",
            id_of_prompt(3),
        ),
        (
            set_value("scores", "candidate", "mini-3", 37),
            "scores of a candidate that is not in data/candidates.parquet",
            f"prompt_id={id_of_prompt(4)}, candidate=mini-3",
        ),
        (
            set_value("scores", "metric", "nima", 45),
            "scores of a metric that is not in label.metrics",
            "metric=nima",
        ),
        (
            set_value("scores", "seed", 7, 53),
            "scores of a seed that is not in generate.seeds",
            "seed=7",
        ),
        (
            set_value("scores", "prompt_id", "unknown", 61),
            "scores of a prompt that is not in data/prompts.parquet",
            "prompt_id=unknown",
        ),
        (
            set_value("scores", "version", "2", 69),
            "scores of several versions of a metric",
            "metric=sharpness",
        ),
        (
            duplicate("scores", 77),
            "several scores of the same prompt, candidate, seed and metric",
            id_of_prompt(9),
        ),
    ],
    "similarity": [
        (
            set_equal_embeddings,
            "more similar than sample.max_similarity in 1 row",
            f"{id_of_prompt(7)}, nearest={id_of_prompt(3)}",
        ),
        (remove_embedding, "embeddings are missing for 1 row", id_of_prompt(5)),
    ],
}


@pytest.mark.parametrize("frame", INVALID)
def test_each_invalid_row_fails_the_expectation_that_covers_it(frame, tmp_path):
    data = valid_tables()
    for change, _, _ in INVALID[frame]:
        change(data)
    failures = sentences(frame, data, tmp_path)
    for _, expectation, row in INVALID[frame]:
        (failure,) = [f for f in failures if expectation in f]
        assert row in failure


def test_an_unknown_column_and_a_wrong_type_fail(tmp_path):
    data = valid_tables()
    data["candidates"] = (
        data["candidates"].rename(columns={"generator": "model"}).astype({"steps": float})
    )
    failures = sentences("candidates", data, tmp_path)
    assert any("columns are not candidate, generator, steps, cost, unit" in f for f in failures)
    assert any("the column steps has values of another type" in f for f in failures)
    assert any(
        "the column generator is missing. Run 'catimage generate' again" in f for f in failures
    )


def test_a_prompt_in_two_splits_fails(tmp_path):
    data = valid_tables()
    copy = (
        data["prompts"]
        .iloc[[5]]
        .assign(split="test" if data["prompts"]["split"][5] != "test" else "val")
    )
    data["prompts"] = pd.concat([data["prompts"], copy], ignore_index=True)
    failures = sentences("prompts", data, tmp_path)
    assert any("are in different splits, in 2 rows" in f and id_of_prompt(5) in f for f in failures)
    assert any("the split is not that of the hash of the prompt in 1 row" in f for f in failures)


@pytest.mark.parametrize("kind", validation.SUITE_KINDS)
def test_spellings_of_one_prompt_in_two_splits_fail(kind, tmp_path):
    data = valid_tables()
    texts = [*data["prompts"]["prompt"], "A scene, number 5."]
    ids = [prompt_id(text) for text in texts]
    data["prompts"] = pd.DataFrame(
        {"prompt_id": ids, "prompt": texts, "source": "scenes", "split": splits_of(texts, 0.1)}
    )
    assert sentences("prompts", data, tmp_path, kind) == []
    data["prompts"].loc[40, "split"] = "test" if data["prompts"]["split"][5] != "test" else "val"
    failures = sentences("prompts", data, tmp_path, kind)
    assert any("are in different splits, in 2 rows" in f and id_of_prompt(5) in f for f in failures)


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
    failures = sentences("labels", data, tmp_path, validate={"complete_labels": complete_labels})
    assert (failures == []) == is_valid
    assert all(id_of_prompt(5) in f for f in failures)


def test_imported_scores_may_have_any_range_and_seeds(tmp_path):
    data = valid_tables()
    data["scores"]["value"] += 30
    data["scores"]["seed"] += 100
    assert sentences("scores", data, tmp_path, "imported") == []
    assert sentences("labels", data, tmp_path, "imported") == []
    assert len(sentences("scores", data, tmp_path)) == 2


def test_imported_images_may_have_any_seeds_and_need_declared_metrics(tmp_path):
    data = valid_tables()
    data["scores"]["seed"] += 100
    assert sentences("scores", data, tmp_path, "images") == []
    assert sentences("labels", data, tmp_path, "images") == []
    data["scores"].loc[3, ["metric", "value"]] = "nima", 1e9
    data["scores"].loc[5, "value"] = -2.0
    failures = sorted(sentences("scores", data, tmp_path, "images"))
    assert len(failures) == 2
    assert "below the range" in failures[0] and "not in label.metrics" in failures[1]


@pytest.mark.parametrize("kind", validation.SUITE_KINDS)
@pytest.mark.parametrize("noise", [0, 1e-9])
def test_a_metric_with_equal_scores_for_all_images_fails(kind, noise, tmp_path):
    data = valid_tables()
    constant = data["scores"]["metric"] == "sharpness"
    data["scores"].loc[constant, "value"] = 0.1 + noise * (np.arange(constant.sum()) % 2)
    (failure,) = sentences("metrics", data, tmp_path, kind)
    assert failure.startswith("data/scores.parquet: all scores of sharpness are equal")
    data["scores"].loc[constant, "value"] = 0.0
    assert len(sentences("metrics", data, tmp_path, kind)) == 1


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
    assert sum(expected.values()) == 193


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
    assert set(validation.load(tmp_path, "generated")) == {
        *EXPECTATION_COUNTS,
        "images",
        "similarity",
    }


def test_a_missing_parameter_of_a_suite_is_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"suites/generated_scores\.json: an expectation has an unknown"
    ):
        run(
            {"scores": validation.suites("generated")["scores"]},
            frames_of(valid_tables(), "generated"),
            {},
            tmp_path / "docs",
        )


GE_WORDS = re.compile(r"expect_|column_|_value|\\$PARAMETER|kwargs|None|nan\\b|suite")
"""Words of Great Expectations, and values that a template has not filled in."""
ADDED_COLUMNS = (
    *("id_of_text", "split_of_id", "splits_of_text", "prompts_needed", "costs_in_routed_unit"),
    *("lowest", "highest", "versions_of_metric", "better_than_reference"),
    *("candidates_needed", "scores_needed"),
)
"""Columns of the frames that the tables of a workspace do not have."""


@pytest.mark.parametrize("kind", validation.SUITE_KINDS)
def test_the_failure_of_every_expectation_is_a_plain_sentence_with_a_fix(kind):
    """The names of Great Expectations, of its arguments and of added columns reach no user."""
    count = 0
    for frame, suite in validation.suites(kind).items():
        for expectation in suite.expectations:
            configuration = expectation.configuration
            row = {key: f"<{key}>" for key in KEYS[frame]}
            result = {"unexpected_count": 2, "partial_unexpected_index_list": [row, row]}
            failed = failed_expectation(
                frame, ExpectationValidationResult(False, configuration, result=result)
            )
            problem = describe(failed, kind, 0.1)
            text = sentence(problem)
            count += 1
            from_schema = failed.expectation.startswith(SCHEMA_EXPECTATIONS)
            assert failed.key in MESSAGES or from_schema, text
            if frame != "splits" or "too few" in text:
                assert not GE_WORDS.search(text), text
            assert not [name for name in ADDED_COLUMNS if name in text], text
            assert not set("{}$") & set(text), text
            assert problem.file.startswith("data/") and problem.fix[0].isupper(), text
    assert count == len([e for s in validation.suites(kind).values() for e in s.expectations]) > 50


def test_a_single_prompt_is_too_few(tmp_path):
    """A CSV file of one prompt: the message names the splits that have no prompts."""
    data = valid_tables()
    data["prompts"] = data["prompts"].query("split == 'test'").iloc[:1].reset_index(drop=True)
    (text,) = sentences("splits", data, tmp_path, "imported")
    assert "too few prompts: 70/10/10/10 leaves none for train, gate and val. Add" in text
    section = {"import": {"gate_share": 0.0}}
    (text,) = sentences("splits", data, tmp_path, "imported", **section)
    assert "too few prompts: 80/10/10 leaves none for train and val. Add" in text


def test_imported_prompts_may_have_a_seed_of_their_own(tmp_path):
    data = valid_tables()
    scores = data["scores"].query("seed == 0").reset_index(drop=True)
    data["scores"] = scores.assign(seed=scores.groupby("prompt_id").ngroup())
    assert sentences("labels", data, tmp_path, "imported") == []
    data["scores"] = data["scores"].drop(index=0)
    text, _ = sentences("labels", data, tmp_path, "imported")
    assert text.startswith("data/scores.parquet: scores of some candidates are missing for 1 row,")
