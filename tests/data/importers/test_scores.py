import csv

import pytest

from catimage.data.importers.scores import parse_scores
from catimage.data.prompts.identity import prompt_id
from catimage.data.schema import SCORES
from catimage.data.score_rows import ScoreRows
from catimage.errors import InputError

HEADER = ["prompt", "candidate", "seed", "metric", "value"]


def valid_rows(
    prompts=("a cat", "a dog"),
    candidates=("cheap", "expensive"),
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
def write_csv(tmp_path):
    def write(rows, header=HEADER, name="scores.csv"):
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])
        return tmp_path / name

    return write


def test_the_tables_of_prompts_and_scores_have_their_schemas(write_csv):
    file = parse_scores(write_csv(valid_rows()))
    assert list(file.prompts) == ["prompt_id", "prompt", "source"]
    assert list(file.scores) == SCORES.names
    assert file.prompts["prompt_id"].tolist() == [prompt_id("a cat"), prompt_id("a dog")]
    assert set(file.prompts["source"]) == {"scores.csv"}
    assert (file.candidates, file.metrics) == (["cheap", "expensive"], ["clip_score", "nima"])
    ids = file.prompts["prompt_id"].tolist()
    rows = ScoreRows.select(file.scores, "nima", ids, ["expensive", "cheap"], file.path)
    values = rows.by_seed()
    assert values.shape == (2, 2, 2)
    assert values[1, 0].tolist() == [0.714, 0.814]


def test_values_are_read_exactly(write_csv):
    value = 0.1 + 0.2
    assert (
        parse_scores(write_csv([["a cat", "cheap", 0, "q", repr(value)]])).scores["value"][0]
        == value
    )


def test_prompts_are_normalised(write_csv):
    file = parse_scores(
        write_csv([["a  cat ", "cheap", 0, "q", 1], ["a cat", "expensive", 0, "q", 2]])
    )
    assert file.prompts["prompt"].tolist() == ["a cat"]
    assert file.scores["prompt_id"].nunique() == 1


def test_select_metric_keeps_the_rows_and_prompts_of_a_metric(write_csv):
    rows = [
        *valid_rows(metrics=("nima",)),
        *valid_rows(prompts=("a bird",), metrics=("clip_score",)),
    ]
    file = parse_scores(write_csv(rows)).select_metric("clip_score")
    assert file.prompts["prompt"].tolist() == ["a bird"]
    assert file.row_numbers.tolist() == [10, 11, 12, 13]
    with pytest.raises(
        InputError,
        match=(
            r"no metric 'nma' \(did you mean 'nima'\?\)\. Use one of the metrics of the file: nima,"
            r" clip_score"
        ),
    ):
        parse_scores(write_csv(rows)).select_metric("nma")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("value", "nan", "row 5: the value is 'nan'"),
        ("value", "", "row 5: the value is ''"),
        ("value", "good", "row 5: the value is 'good'"),
        ("value", "-inf", "row 5: the value is '-inf'"),
        ("seed", "1.5", "row 5: the seed is '1.5', not a whole number"),
        ("seed", str(2**64), "row 5: the seed is '18446744073709551616', not a whole number"),
        ("seed", str(-(2**63) - 1), "row 5: the seed"),
        ("seed", "1e9999", "row 5: the seed"),
        ("candidate", " ", "row 5: the candidate is empty"),
        ("metric", "", "row 5: the metric is empty"),
        ("prompt", " ", "row 5: the prompt is empty"),
        ("prompt", "x" * 100_000, "row 5: the prompt has 100,000 characters"),
    ],
)
def test_an_invalid_cell_is_refused_with_its_row(write_csv, column, value, message):
    rows = valid_rows()
    rows[3][HEADER.index(column)] = value
    with pytest.raises(InputError, match=message) as error:
        parse_scores(write_csv(rows))
    assert "scores.csv" in str(error.value)


def test_a_duplicate_score_is_refused_with_both_rows(write_csv):
    rows = [*valid_rows(), [" a dog ", *valid_rows()[-1][1:]]]
    with pytest.raises(
        InputError,
        match="rows 17 and 18 both have the same prompt, candidate expensive, seed 1, metric nima",
    ):
        parse_scores(write_csv(rows))


def test_a_missing_score_is_refused(write_csv):
    rows = [r for r in valid_rows() if not (r[0] == "a dog" and r[1] == "cheap" and r[3] == "nima")]
    file = parse_scores(write_csv(rows))
    file.check_complete(["clip_score"], file.candidates)
    with pytest.raises(
        InputError, match="row 10: the prompt 'a dog' has no 'nima' score for the candidate 'cheap'"
    ):
        file.check_complete(["clip_score", "nima"], file.candidates)
    with pytest.raises(
        InputError,
        match="row 2: the prompt 'a cat' has no 'clip_score' score for the candidate 'middle'",
    ):
        file.check_complete(["clip_score"], ["cheap", "middle", "expensive"])


def test_seeds_may_differ_between_prompts(write_csv):
    file = parse_scores(
        write_csv(valid_rows(seeds=(0, 1, 2))[:-4] + valid_rows(prompts=("a bird",), seeds=(7,)))
    )
    file.check_complete(file.metrics, file.candidates)
    assert len(file.prompts) == 3


def test_an_unknown_candidate_is_refused(write_csv):
    file = parse_scores(write_csv(valid_rows()))
    file.check_candidates(["cheap", "expensive", "other"], "the router")
    with pytest.raises(
        InputError,
        match=r"row 6: candidate 'expensive' is not in the router \(did you mean 'expensiv'\?\)",
    ):
        file.check_candidates(["cheap", "expensiv"], "the router")
