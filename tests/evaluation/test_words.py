import copy

from catimage.evaluation import words
from catimage.evaluation.summary import summary, table


def test_a_router_that_gains_says_so(document):
    text = summary(document)
    assert "The router gains +" in text and "the best single candidate, dear, at 55% of its cost" in text
    assert "lambda 0.01 (good): realised mean cost 5.5 [" in text and "of a budget of 6 seconds" in text
    rows = [line for line in text.splitlines() if line.startswith(("cheap ", "middle ", "dear "))]
    assert len(rows) == 3 and rows[1].endswith("better")


def test_a_router_that_gains_nothing_significant_says_so(blind_document):
    text = summary(blind_document)
    assert text.count("gains nothing significant over") == 3
    rows = {line.split()[0]: line for line in text.splitlines() if line.startswith(("cheap ", "middle ", "dear "))}
    assert rows["cheap"].endswith("nothing significant") and rows["dear"].endswith("nothing significant")
    assert rows["middle"].endswith("worse")  # blind, the router can only mix the two ends of the hull


def test_a_router_that_loses_says_so(document):
    worse = copy.deepcopy(document)
    worse["budget"]["best_single"] |= {"gain": -0.1, "interval": [-0.2, -0.05]}
    assert "The router loses to the best single candidate, dear: -0.1 [-0.2, -0.05]" in words.headline(worse)


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
