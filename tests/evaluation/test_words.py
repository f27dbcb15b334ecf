import copy

from catimage.evaluation import words
from catimage.evaluation.summary import summary, table


def rows_of(text):
    return {line.split()[0]: line for line in text.splitlines() if line.startswith(("cheap ", "middle ", "dear "))}


def test_a_router_that_gains_says_so(document):
    text = summary(document)
    assert "The router gains +0.13" in text and "over the best fixed candidate within its budget, middle, at 91.7% of its cost" in text
    assert "over the best single candidate, dear: " not in text and "over the best single candidate, dear, at 55% of its cost" in text
    assert "over the best random mix of two candidates" in text
    assert "lambda 0.01 (good): realised mean cost 5.5 [" in text and "of a budget of 6 seconds" in text
    assert len(rows_of(text)) == 3 and rows_of(text)["middle"].endswith("better")


def test_a_router_that_gains_nothing_significant_says_so(blind_document):
    text = summary(blind_document)
    assert text.count("gains nothing significant over") == 2 and "The router gains +" not in text
    assert "the best single candidate" not in text  # it is the best fixed candidate within the budget, and named once
    rows = rows_of(text)
    assert rows["cheap"].endswith("nothing significant") and rows["dear"].endswith("nothing significant")
    assert rows["middle"].endswith("worse")  # blind, the router can only mix the two ends of the hull


def test_a_router_that_loses_says_so(document):
    worse = copy.deepcopy(document)
    worse["budget"]["best_fixed"] |= {"gain": -0.1, "interval": [-0.2, -0.05]}
    assert (
        words.headline(worse)
        == "The router loses to the best fixed candidate within its budget, middle: -0.1 [-0.2, -0.05], at 91.7% of its cost."
    )
    worse["budget"]["best_fixed"] = None
    assert words.headline(worse) == words.against_best_single(worse)


def test_negated_qualities_are_announced(document):
    assert "higher is better" in words.direction(document) and "negated" not in words.direction(document)
    assert "negated" in words.direction(document | {"lower_is_better": True})


def test_missing_figures_are_dashes():
    assert (
        words.number(None) == "-"
        and words.percent(None) == "-"
        and words.percent(0.5512) == "55.1%"
        and words.number(1234567.0) == "1.235e+06"
    )


def test_columns_are_aligned():
    lines = table(["a", "b", "c"], [["x", "1", "yes"], ["long", "12345", "no"]])
    assert lines == ["a         b  c", "----  -----  ---", "x         1  yes", "long  12345  no"]
