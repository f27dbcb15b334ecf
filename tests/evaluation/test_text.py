import copy

from catimage.evaluation import text as words
from catimage.evaluation.summary import summary, table


def rows_of(text):
    return {
        line.split()[0]: line
        for line in text.splitlines()
        if line.startswith(("cheap ", "middle ", "dear "))
    }


def test_a_router_that_gains_says_so(document):
    text = summary(document)
    assert (
        "The router gains +0.13" in text
        and "over the best fixed candidate within its budget, middle, at 91.7% of its cost" in text
    )
    assert (
        "over the best single candidate, dear: " not in text
        and "over the best single candidate, dear, at 55% of its cost" in text
    )
    assert "over the best random mix of two candidates" in text
    assert (
        "lambda 0.01 (good): realised mean cost 5.5 [" in text
        and "of a budget of 6 seconds" in text
    )
    assert len(rows_of(text)) == 3 and rows_of(text)["middle"].endswith("better")


def test_lambdas_that_are_mixed_are_said_with_their_shares(document):
    rule = [
        {"share": 0.25, "lambda": 0.01, "multipliers": {}},
        {"share": 0.75, "lambda": 0.02, "multipliers": {}},
    ]
    said = words.budget_line(document | {"budget": document["budget"] | {"rule": rule}})
    assert said.startswith("lambda 0.01 for 25% and 0.02 for 75% (good): realised mean cost 5.5 [")


def test_floors_are_told_with_what_they_came_to(document):
    other = [
        {"metric": "lpips", "floor": 0.3, "realised": 0.25},
        {"metric": "hps", "floor": 0.2, "realised": None},
    ]
    floored = document | {"budget": document["budget"] | {"floors": other}}
    assert words.budget_line(floored).endswith(
        "of a budget of 6 seconds. Mean lpips on test: 0.25, calibrated to 0.3. Mean hps on test:"
        " -, calibrated to 0.2."
    )
    least = document | {
        "budget": document["budget"] | {"quality_floor": 0.6, "realised_quality": 0.61234}
    }
    assert words.budget_line(least).endswith(
        "after 6 seconds on validation, with a quality of 0.6123 for a floor of 0.6."
    )
    assert words.budget_line(least | {"lower_is_better": True}).endswith("for a floor of -0.6.")


def test_a_router_that_gains_nothing_significant_says_so(blind_document):
    text = summary(blind_document)
    assert text.count("gains nothing significant over") == 2 and "The router gains +" not in text
    assert (
        "over the best single candidate, dear" not in text
    )  # it is the best fixed candidate within the budget, and named once
    rows = rows_of(text)
    assert rows["cheap"].endswith("nothing significant") and rows["dear"].endswith(
        "nothing significant"
    )
    assert rows["middle"].endswith(
        "worse"
    )  # blind, the router can only mix the two ends of the hull


def test_a_router_that_loses_says_so(document):
    worse = copy.deepcopy(document)
    worse["budget"]["best_fixed"] |= {"gain": -0.1, "interval": [-0.2, -0.05]}
    assert (
        words.headline(worse)
        == "The router loses to the best fixed candidate within its budget, middle: -0.1 [-0.2,"
        " -0.05], at 91.7% of its cost."
    )
    worse["budget"]["best_fixed"] = None
    assert words.headline(worse) == words.against_best_single(worse)


def test_negated_qualities_are_announced(document):
    assert "higher is better" in words.direction(document) and "negated" not in words.direction(
        document
    )
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


def test_the_routers_own_cost_stands_beside_the_papers(document):
    assert (
        words.own_cost(document)
        == "The router itself: 3.1e-05 TFLOPs a decision; CATImage's takes less than 0.001 TFLOPs."
    )
    timed = document | {"decision_ms": {"with_text": 4.21, "without_text": 0.123}}
    assert (
        "3.1e-05 TFLOPs and 4.2 ms (0.12 ms after the text encoder) a decision"
        in words.own_cost(timed)
    )
    assert words.decision_line(timed).endswith(
        "longest test prompt) and 4.2 ms (0.12 ms after the text encoder)."
    )


def rows(*shares):
    return {"by_candidate": [{"cost_ratio_to_match": share} for share in shares]}


def test_a_pool_whose_cheap_candidate_is_good_is_said_to_be_that():
    methods = {
        "e": rows(1.0, 0.4, 0.2, None),
        "fixed": rows(1.0, 0.5, 0.2, 1.0),
        "mix": rows(1.0, 0.45, 0.2, 1.0),
    }
    assert words.why_beside(methods, "e").endswith(
        "Here that holds for 2 of 4 candidates; the router undercuts both for 1."
    )
    free = {"e": rows(0.0, 0.0), "fixed": rows(None, 0.0), "mix": rows(None, 0.0)}
    assert words.why_beside(free, "e").endswith(
        "Here that holds for 1 of 2 candidates; the router undercuts both for 1."
    )
    methods["fixed"] = rows(1.0, 1.0, 1.0, 1.0)
    assert "Here" not in words.why_beside(methods, "e")


def test_what_was_left_out_is_counted():
    assert words.left_out({"left_out": {"validation": 0, "test": 0}}) == "" == words.left_out({})
    said = words.left_out({"left_out": {"validation": 1, "test": 1200}})
    assert said.endswith("no label there: 1 validation prompt and 1,200 test prompts.")


def test_luck_of_the_seeds_in_words(document):
    noise = {
        "noise_share": 0.4,
        "noise_share_interval": [0.3, 0.5],
        "oracle_gain": 1.0,
        "oracle_gain_interval": [0.9, 1.1],
        "learnable_gain": 0.6,
        "learnable_gain_interval": [0.5, 0.7],
        "captured": {"good": {"share": 0.5, "share_interval": [0.4, 0.6]}},
    }
    said = words.noise_line(document | {"noise": noise})
    assert "40% [30%, 50%] is luck of the seeds, and +0.6 [0.5, 0.7] can be learned" in said
    assert said.endswith("the router's honest choice captures 50% [40%, 60%] of that.")
    nothing = noise | {"captured": {"good": {"share": None, "share_interval": None}}}
    assert words.noise_line(document | {"noise": nothing}).endswith("can be learned.")
    worse = noise | {"learnable_gain": -0.1, "learnable_gain_interval": [-0.3, 0.1]}
    assert "and nothing significant (-0.1 [-0.3, 0.1]) can be learned" in words.noise_line(
        document | {"noise": worse}
    )
    assert "not clearly above 0" in words.noise_line(
        document | {"noise": noise | {"noise_share": None}}
    )
    assert words.noise_line(document | {"noise": None}) == ""


def test_few_test_prompts_are_a_warning(document):
    assert words.few(document) == "" == words.few({"n_test": 30})
    assert words.few({"n_test": 1}).startswith(
        "Of 1 test prompt, intervals by a bootstrap are too narrow"
    )
    assert words.few(document | {"n_test": 7}) in summary(document | {"n_test": 7})
