"""Scores in the shapes and formats that people have them in."""

import numpy as np
import pandas as pd
import pytest

from catimage.data.importers.scores import parse_scores
from catimage.errors import InputError

KEYS = ["prompt_id", "candidate", "seed", "metric"]


@pytest.fixture(scope="module")
def long():
    """Scores of 20 prompts, three candidates, two seeds and one metric."""
    rng = np.random.default_rng(0)
    rows = [
        (f"a cat, number {i}", candidate, seed, "quality", rng.random())
        for i in range(20)
        for candidate in ("cheap", "middle", "owner/best")
        for seed in (0, 7)
    ]
    return pd.DataFrame(rows, columns=["prompt", "candidate", "seed", "metric", "value"])


def wide_of(long):
    index = ["prompt", "seed", "metric"]
    wide = long.pivot_table(index=index, columns="candidate", values="value", sort=False)
    return wide.reset_index()


def scores_of(frame, path, **options):
    """Write a frame in the format of the suffix; return the scores, sorted."""
    match path.suffix:
        case ".csv":
            frame.to_csv(path, index=False)
        case ".tsv":
            frame.to_csv(path, index=False, sep="\t")
        case ".jsonl":
            frame.to_json(path, orient="records", lines=True, double_precision=15)
        case ".json":
            frame.to_json(path, orient="records", double_precision=15)
        case _:
            frame.to_parquet(path)
    return sorted_scores(parse_scores(path, **options))


def sorted_scores(file):
    return file.scores.sort_values(KEYS, ignore_index=True)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json", "parquet"])
@pytest.mark.parametrize("shape", ["long", "wide"])
def test_all_formats_and_both_shapes_give_the_same_scores(long, tmp_path, suffix, shape):
    expected = scores_of(long, tmp_path / "long.csv")
    frame = long if shape == "long" else wide_of(long)
    scores = scores_of(frame, tmp_path / f"{shape}.{suffix}")
    pd.testing.assert_frame_equal(scores, expected, check_exact=False, rtol=1e-14)


def test_columns_of_categories_are_read(long, tmp_path):
    frame = long.astype({"prompt": "category", "candidate": "category", "metric": "category"})
    scores = scores_of(frame, tmp_path / "f.parquet")
    pd.testing.assert_frame_equal(scores, scores_of(long, tmp_path / "long.csv"))


def test_the_rows_of_a_wide_file_are_kept_together(long, tmp_path):
    path = tmp_path / "wide.csv"
    wide_of(long).to_csv(path, index=False)
    file = parse_scores(path)
    assert file.candidates == ["cheap", "middle", "owner/best"]
    assert file.row_numbers.tolist() == list(np.repeat(np.arange(2, 42), 3))


def test_an_empty_cell_of_a_wide_file_is_a_missing_score(tmp_path):
    path = tmp_path / "wide.csv"
    path.write_text("prompt,a,b\nx,1,\ny, ,2\nz,3,4\n")
    file = parse_scores(path)
    assert file.scores[["candidate", "value"]].to_numpy().tolist() == [
        ["a", 1.0],
        ["b", 2.0],
        ["a", 3.0],
        ["b", 4.0],
    ]
    with pytest.raises(
        InputError, match=r"row 2: the prompt 'x' has no 'score' score for the .*'b'"
    ):
        file.check_complete(["score"], ["a", "b"])


@pytest.mark.parametrize("cell", ["nan", "good", "inf", "1,5"])
def test_an_invalid_cell_of_a_wide_file_is_refused(tmp_path, cell):
    path = tmp_path / "wide.tsv"
    path.write_text(f"prompt\ta\tb\nx\t1\t2\ny\t1\t{cell}\n")
    with pytest.raises(InputError, match=f"row 3: the value of 'b' is '{cell}', not a finite"):
        parse_scores(path)


def test_columns_of_texts_and_of_ids_are_not_candidates(tmp_path):
    path = tmp_path / "wide.csv"
    path.write_text(",id,prompt,a,b,note,split\n0,7,x,1,2,hello,train\n1,8,y,1,2,,test\n")
    file = parse_scores(path)
    assert file.candidates == ["a", "b"]
    assert [note for note in file.notes if "'split'" in note] == [
        f"{path}: the column 'split' is ignored. The split of a prompt is determined by the hash of"
        " its text."
    ]


def test_known_candidates_determine_the_columns_of_a_wide_file(tmp_path):
    path = tmp_path / "wide.csv"
    path.write_text("prompt,length,a,b\nx,9,1,2\n")
    assert parse_scores(path).candidates == ["length", "a", "b"]
    assert parse_scores(path, candidates=["b", "a"]).candidates == ["a", "b"]
    assert parse_scores(path, candidates=["b"]).candidates == ["b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt,candidate,score\nx,a,1\n", "the column 'value' is missing"),
        ("prompt,model,value\nx,a,1\n", "the column 'candidate' is missing"),
        ("caption,candidate,value\nx,a,1\n", "the column 'prompt' is missing"),
        (
            "prompt,model,score\nx,a,1\n",
            "columns prompt, model, score are neither prompt,candidate",
        ),
        ("prompt,note\nx,y\n", "columns prompt, note are neither"),
        ("prompt,a,a\nx,1,2\n", "the column 'a' occurs twice"),
        ("prompt,candidate,value,value\nx,a,1,2\n", "the column 'value' occurs twice"),
        ("prompt,a,../../b\nx,1,2\n", "the candidate '../../b' is a path"),
    ],
)
def test_a_file_without_the_necessary_columns_is_refused(tmp_path, text, message):
    path = tmp_path / "scores.csv"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        parse_scores(path)
    assert message in str(error.value)


def test_the_metric_can_be_given_if_there_is_no_column_of_metrics(tmp_path):
    for text in ("prompt,a,b\nx,1,2\n", "prompt,candidate,value\nx,a,1\nx,b,2\n"):
        path = tmp_path / "scores.csv"
        path.write_text(text)
        assert parse_scores(path, "nima").metrics == ["nima"]
        assert parse_scores(path, "nima").notes == ()
        file = parse_scores(path)
        assert file.metrics == ["score"]
        assert "the metric is called 'score'. Name it with '--set metric=NAME'" in file.notes[0]


def test_repeated_scores_are_numbered_if_there_is_no_column_of_seeds(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("prompt,candidate,metric,value\nx,a,m,1\nx,b,m,2\nx,a,m,3\nx,a,n,4\nx,a,m,5\n")
    file = parse_scores(path)
    assert file.scores["seed"].tolist() == [0, 0, 1, 0, 2]
    assert "repeated scores are numbered from 0 to 2" in file.notes[0]
    path.write_text("prompt,metric,a,b\nx,m,1,2\nx,m,,4\nx,n,5,6\n")
    assert parse_scores(path).scores["seed"].tolist() == [0, 0, 1, 0, 0]


def test_repeated_ratings_with_the_same_seed_are_refused_with_both_fixes(tmp_path):
    path = tmp_path / "votes.csv"
    path.write_text("prompt,candidate,seed,metric,value\nx,a,0,win,1\nx,b,0,win,0\nx,a,0,win,0\n")
    with pytest.raises(
        InputError,
        match=(
            r"rows 2 and 4 both have the same prompt, candidate a, seed 0, metric win. Remove one"
            r" of them, or remove the column 'seed' if they are repeated ratings"
        ),
    ):
        parse_scores(path)


@pytest.mark.parametrize("name", ["../../../x", "/abs/path", "a/b", "..", ".x", "a\\b", "x" * 200])
def test_a_metric_that_is_a_path_is_refused(tmp_path, name):
    path = tmp_path / "scores.csv"
    path.write_text(f"prompt,candidate,seed,metric,value\nx,a,0,{name},1\n")
    with pytest.raises(InputError, match=r"row 2: the metric .*Rename it"):
        parse_scores(path)
    path.write_text("prompt,a,b\nx,1,2\n")
    with pytest.raises(InputError, match="metric: the name"):
        parse_scores(path, name)


@pytest.mark.parametrize("name", ["../x", "/abs", "a/../b", "a//b", "a\\b"])
def test_a_candidate_that_is_a_path_is_refused(tmp_path, name):
    path = tmp_path / "scores.csv"
    path.write_text(f"prompt,candidate,seed,metric,value\nx,{name},0,m,1\n")
    with pytest.raises(InputError, match=r"row 2: the candidate .*Rename it"):
        parse_scores(path)


def test_a_column_of_costs_is_reported_as_ignored(long, tmp_path):
    path = tmp_path / "scores.csv"
    long.assign(cost=9).to_csv(path, index=False)
    assert parse_scores(path).notes == (
        f"{path}: the column 'cost' is ignored. Costs are read from the file of the option --costs"
        " only.",
    )


def test_a_large_cell_in_a_column_that_is_not_used_is_no_problem(long, tmp_path):
    frame = long.assign(extra=["A" * 200_000, *[""] * (len(long) - 1)])
    scores = scores_of(frame, tmp_path / "large.csv")
    pd.testing.assert_frame_equal(scores, scores_of(long, tmp_path / "long.csv"))


def test_numbers_with_a_decimal_comma_are_read_in_files_with_semicolons(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("prompt;candidate;seed;metric;value\na cat, asleep;a;0;m;0,25\n")
    file = parse_scores(path)
    assert file.scores["value"].tolist() == [0.25]
    assert file.prompts["prompt"].tolist() == ["a cat, asleep"]
