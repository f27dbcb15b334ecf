"""Prompts of a scores file that differ only in case, punctuation or white space."""

import pandas as pd
import pytest

from catimage.data.importers.scores import parse_scores
from catimage.data.prompts.identity import prompt_id

HEADER = "prompt,candidate,seed,metric,value\n"


@pytest.fixture
def parse(tmp_path):
    def parse_text(text, known=None):
        path = tmp_path / "scores.csv"
        path.write_text(HEADER + text)
        return parse_scores(path, known=known)

    return parse_text


def labels(file):
    means = file.scores.groupby(["prompt_id", "candidate"])["value"].mean()
    return {key: round(value, 9) for key, value in means.items()}


def test_spellings_are_one_prompt_and_their_scores_are_pooled(parse):
    file = parse(
        "a blue moon,a,0,m,1\na blue moon,b,0,m,2\nA blue moon.,a,0,m,3\nA blue moon.,b,0,m,6\n"
        "a red moon,a,0,m,5\na red moon,b,0,m,5\n"
    )
    assert file.prompts["prompt"].tolist() == ["a blue moon", "a red moon"]
    blue, red = prompt_id("a blue moon"), prompt_id("a red moon")
    assert labels(file) == {(blue, "a"): 2.0, (blue, "b"): 4.0, (red, "a"): 5.0, (red, "b"): 5.0}
    assert len(file.scores) == 6
    assert not file.scores.duplicated(["prompt_id", "candidate", "seed", "metric"]).any()
    seeds = file.scores.loc[2:3, "seed"]
    assert seeds.nunique() == 1, "one seed of a spelling stays one seed for all candidates"
    assert seeds.iloc[0] != 0
    assert [note.partition("scores.csv: ")[2] for note in file.notes] == [
        "1 prompt differs from another prompt of the file only in case, punctuation or white"
        " space and is merged with it, such as 'A blue moon.' with 'a blue moon'."
    ]


def test_prompts_that_differ_in_white_space_only_are_merged(parse):
    file = parse("a  moon,a,0,m,1\na moon,a,0,m,3\n")
    assert file.prompts["prompt"].tolist() == ["a moon"]
    assert labels(file) == {(prompt_id("a moon"), "a"): 2.0}
    assert "such as 'a moon' with 'a  moon'" in file.notes[0]


def test_seeds_are_kept_if_the_spellings_have_different_ones(parse):
    file = parse("a moon,a,0,m,1\nA moon,a,1,m,3\na moon,b,0,m,1\nA moon,b,1,m,3\n")
    assert file.scores["seed"].tolist() == [0, 1, 0, 1]


def test_a_spelling_can_supply_missing_scores(parse):
    file = parse("a moon,a,0,m,1\nA moon!,b,0,m,3\n")
    file.check_complete(["m"], ["a", "b"])
    assert file.scores["seed"].tolist() == [0, 0]


def test_the_same_file_gives_the_same_seeds(parse):
    text = "a moon,a,0,m,1\nA moon,a,0,m,3\nA MOON,a,0,m,5\n"
    first, second = parse(text), parse(text)
    pd.testing.assert_frame_equal(first.scores, second.scores)
    assert first.scores["seed"].nunique() == 3


def test_prompts_that_differ_in_symbols_are_not_merged(parse):
    file = parse("1 + 1,a,0,m,1\n1 = 1,a,0,m,1\na cat,a,0,m,1\n")
    assert (len(file.prompts), file.notes) == (3, ())


def test_spellings_of_a_workspace_take_precedence(parse):
    known = parse("A blue moon.,a,0,m,1\na sun,a,0,m,1\n").prompts
    file = parse("a blue moon,b,0,m,1\nA BLUE MOON,b,0,m,3\na star,b,0,m,3\n", known)
    assert file.prompts["prompt"].tolist() == ["A blue moon.", "a star"]
    assert set(file.scores["prompt_id"]) == {prompt_id("A blue moon."), prompt_id("a star")}
    assert "such as 'A BLUE MOON' with 'a blue moon'" in file.notes[0]
