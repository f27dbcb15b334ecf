import csv

import pytest

from catimage.data.importers.scores import parse_scores, read_costs_csv
from catimage.data.prompts.identity import prompt_id, split_of
from catimage.data.schema import PROMPTS, SCORES, scores_array
from catimage.errors import InputError

HEADER = ["prompt", "candidate", "seed", "metric", "value"]


def good(
    prompts=("a cat", "a dog"),
    candidates=("cheap", "dear"),
    seeds=(0, 1),
    metrics=("clip_score", "nima"),
):
    return [
        [p, c, s, m, round(0.1 * s + len(p) / 7, 3)]
        for p in prompts
        for c in candidates
        for s in seeds
        for m in metrics
    ]


@pytest.fixture
def written(tmp_path):
    def write(rows, header=HEADER, name="scores.csv"):
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])
        return tmp_path / name

    return write


def test_frames_are_in_the_schemas_of_the_tables(written):
    file = parse_scores(written(good()))
    assert list(file.prompts) == PROMPTS.names
    assert list(file.scores) == SCORES.names
    assert file.prompts["prompt_id"].tolist() == [prompt_id("a cat"), prompt_id("a dog")]
    assert file.prompts["split"].tolist() == [split_of(i) for i in file.prompts["prompt_id"]]
    assert set(file.prompts["source"]) == {"scores.csv"}
    assert (file.candidates, file.metrics) == (["cheap", "dear"], ["clip_score", "nima"])
    values = scores_array(
        file.scores, "nima", file.prompts["prompt_id"].tolist(), ["dear", "cheap"]
    )
    assert values.shape == (2, 2, 2)
    assert values[1, 0].tolist() == [0.714, 0.814]


def test_values_are_read_to_the_last_bit(written):
    value = 0.1 + 0.2
    assert (
        parse_scores(written([["a cat", "cheap", 0, "q", repr(value)]])).scores["value"][0] == value
    )


def test_prompts_that_differ_in_white_space_are_one_prompt(written):
    file = parse_scores(written([["a  cat ", "cheap", 0, "q", 1], ["a cat", "dear", 0, "q", 2]]))
    assert file.prompts["prompt"].tolist() == ["a cat"]
    assert file.scores["prompt_id"].nunique() == 1


def test_only_one_metric_keeps_its_rows_and_prompts(written):
    rows = [*good(metrics=("nima",)), *good(prompts=("a bird",), metrics=("clip_score",))]
    file = parse_scores(written(rows)).only("clip_score")
    assert file.prompts["prompt"].tolist() == ["a bird"]
    assert file.rows.tolist() == [10, 11, 12, 13]
    with pytest.raises(
        InputError, match=r"no metric 'nma' \(did you mean 'nima'\?\); it has nima, clip_score"
    ):
        parse_scores(written(rows)).only("nma")


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("value", "nan", "row 5: the value is 'nan'"),
        ("value", "", "row 5: the value is ''"),
        ("value", "good", "row 5: the value is 'good'"),
        ("value", "-inf", "row 5: the value is '-inf'"),
        ("seed", "1.5", "row 5: the seed is '1.5', not a whole number"),
        ("seed", str(2**63), "row 5: the seed"),
        ("candidate", " ", "row 5: the candidate is empty"),
        ("metric", "", "row 5: the metric is empty"),
        ("prompt", " ", "row 5: the prompt is empty"),
        ("prompt", "x" * 100_000, "row 5: the prompt has 100,000 characters"),
    ],
)
def test_a_bad_cell_is_refused_with_its_row(written, column, value, said):
    rows = good()
    rows[3][HEADER.index(column)] = value
    with pytest.raises(InputError, match=said) as error:
        parse_scores(written(rows))
    assert "scores.csv" in str(error.value)


def test_the_same_score_twice_is_refused_with_both_rows(written):
    rows = [*good(), ["a   dog", *good()[-1][1:]]]
    with pytest.raises(
        InputError,
        match="rows 17 and 18 both are about the same prompt, candidate dear, seed 1, metric nima",
    ):
        parse_scores(written(rows))


def test_a_candidate_missing_for_a_prompt_is_refused(written):
    rows = [r for r in good() if not (r[0] == "a dog" and r[1] == "cheap" and r[3] == "nima")]
    file = parse_scores(written(rows))
    file.check_complete(["clip_score"], file.candidates)
    with pytest.raises(
        InputError, match="row 10: the prompt 'a dog' has no 'nima' score for the candidate 'cheap'"
    ):
        file.check_complete(["clip_score", "nima"], file.candidates)
    with pytest.raises(
        InputError,
        match="row 2: the prompt 'a cat' has no 'clip_score' score for the candidate 'middle'",
    ):
        file.check_complete(["clip_score"], ["cheap", "middle", "dear"])


def test_seeds_may_differ_from_prompt_to_prompt(written):
    file = parse_scores(written(good(seeds=(0, 1, 2))[:-4] + good(prompts=("a bird",), seeds=(7,))))
    file.check_complete(file.metrics, file.candidates)
    assert len(file.prompts) == 3


def test_a_candidate_that_is_not_known_is_refused(written):
    file = parse_scores(written(good()))
    file.check_candidates(["cheap", "dear", "other"], "the router")
    with pytest.raises(
        InputError, match=r"row 6: candidate 'dear' is not in the router \(did you mean 'deer'\?\)"
    ):
        file.check_candidates(["cheap", "deer"], "the router")


def test_costs(written):
    costs = read_costs_csv(
        written(
            [["a", "1.5", "usd"], ["a", 2, "seconds"]], ["candidate", "cost", "unit"], "costs.csv"
        )
    )
    assert costs.to_numpy().tolist() == [["a", 1.5, "usd"], ["a", 2.0, "seconds"]]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (["b", -1, "usd"], "row 3: the cost is '-1', not a finite number, zero or more"),
        (["b", "free", "usd"], "row 3: the cost is 'free'"),
        (["b", "inf", "usd"], "row 3: the cost is 'inf'"),
        (["b", 1, ""], "row 3: the unit is empty"),
        (["a", 2, "usd"], "rows 2 and 3 both are about candidate a, unit usd"),
    ],
)
def test_bad_costs_are_refused(written, row, said):
    with pytest.raises(InputError, match=said):
        read_costs_csv(written([["a", 1, "usd"], row], ["candidate", "cost", "unit"], "costs.csv"))
