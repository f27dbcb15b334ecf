import copy

from catimage.evaluation import text
from catimage.evaluation.summary import summary


def table_rows(summary_text):
    """Return the line of each candidate in the table of a summary."""
    return {
        line.split()[0]: line
        for line in summary_text.splitlines()
        if line.startswith(("cheap ", "middle ", "expensive "))
    }


def test_the_summary_of_a_router_with_a_gain(document):
    lines = summary(document)
    assert "The router gains +0.13" in lines
    fixed = "over the best fixed candidate within the budget, middle, at 91.7% of that candidate's"
    assert f"{fixed} cost" in lines
    assert "over the best single candidate, expensive: " not in lines
    assert "over the best single candidate, expensive, at 55% of that candidate's cost" in lines
    assert "over the best random mix of two candidates" in lines
    assert "lambda 0.01 (good): realised mean cost 5.5 [" in lines
    assert "of a budget of 6 seconds" in lines
    rows = table_rows(lines)
    assert len(rows) == 3
    assert rows["middle"].endswith("better")


def test_the_lambdas_of_a_randomized_rule_are_listed_with_their_shares(document):
    rule = [
        {"share": 0.25, "lambda": 0.01, "multipliers": {}},
        {"share": 0.75, "lambda": 0.02, "multipliers": {}},
    ]
    line = text.budget_line(document | {"budget": document["budget"] | {"rule": rule}})
    assert line.startswith("lambda 0.01 for 25% and 0.02 for 75% (good): realised mean cost 5.5 [")


def test_floors_are_listed_with_their_realised_means(document):
    floors = [
        {"metric": "lpips", "floor": 0.3, "realised": 0.25},
        {"metric": "hps", "floor": 0.2, "realised": None},
    ]
    with_floors = document | {"budget": document["budget"] | {"floors": floors}}
    assert text.budget_line(with_floors).endswith(
        "of a budget of 6 seconds. The mean lpips on test is 0.25; the floor is 0.3. The mean hps"
        " on test is -; the floor is 0.2."
    )
    quality_floor = {"quality_floor": 0.6, "realised_quality": 0.61234}
    with_floor = document | {"budget": document["budget"] | quality_floor}
    assert text.budget_line(with_floor).endswith(
        "compared with 6 seconds on validation, with a mean quality of 0.6123; the required quality"
        " is 0.6."
    )
    negated = with_floor | {"lower_is_better": True}
    assert text.budget_line(negated).endswith("the required quality is -0.6.")


def test_the_summary_of_a_router_without_a_significant_gain(constant_document):
    lines = summary(constant_document)
    assert lines.count("has no significant gain over") == 2
    assert "The router gains +" not in lines
    # The best single candidate is also the best fixed candidate within the budget, so it is named
    # only once.
    assert "over the best single candidate, expensive" not in lines
    rows = table_rows(lines)
    assert rows["cheap"].endswith("nothing significant")
    assert rows["expensive"].endswith("nothing significant")
    # With constant predictions, the router can only select the cheapest or the best candidate.
    assert rows["middle"].endswith("worse")


def test_the_headline_of_a_router_with_a_loss(document):
    worse = copy.deepcopy(document)
    worse["budget"]["best_fixed"] |= {"gain": -0.1, "interval": [-0.2, -0.05]}
    assert text.headline(worse) == (
        "The router loses to the best fixed candidate within the budget, middle: -0.1 [-0.2,"
        " -0.05], at 91.7% of that candidate's cost."
    )
    worse["budget"]["best_fixed"] = None
    assert text.headline(worse) == text.against_best_single(worse)


def test_the_direction_of_negated_qualities_is_stated(document):
    assert "higher is better" in text.direction(document)
    assert "negated" not in text.direction(document)
    assert "negated" in text.direction(document | {"lower_is_better": True})


def test_the_cost_of_a_decision_is_compared_with_that_of_the_paper(document):
    assert text.router_cost_line(document) == (
        "The router itself: 3.1e-05 TFLOPs per decision; in the CATImage paper, less than 0.001"
        " TFLOPs."
    )
    timed = document | {"decision_ms": {"with_text": 4.21, "without_text": 0.123}}
    expected = "3.1e-05 TFLOPs and 4.2 ms (0.12 ms after the text encoder) per decision"
    assert expected in text.router_cost_line(timed)
    assert text.decision_line(timed).endswith(
        "of which the text encoder 3e-05) and 4.2 ms (0.12 ms after the text encoder)."
    )


def by_candidate(*shares):
    return {"by_candidate": [{"cost_ratio_to_match": share} for share in shares]}


def test_candidates_that_a_cheaper_candidate_matches_are_counted():
    methods = {
        "e": by_candidate(1.0, 0.4, 0.2, None),
        "fixed": by_candidate(1.0, 0.5, 0.2, 1.0),
        "mix": by_candidate(1.0, 0.45, 0.2, 1.0),
    }
    assert text.baselines_line(methods, "e").endswith(
        "A cheaper fixed candidate matches 2 of the 4 candidates; the router is cheaper than both"
        " baselines for 1."
    )
    free = {
        "e": by_candidate(0.0, 0.0),
        "fixed": by_candidate(None, 0.0),
        "mix": by_candidate(None, 0.0),
    }
    assert text.baselines_line(free, "e").endswith(
        "A cheaper fixed candidate matches 1 of the 2 candidates; the router is cheaper than both"
        " baselines for 1."
    )
    methods["fixed"] = by_candidate(1.0, 1.0, 1.0, 1.0)
    assert "A cheaper" not in text.baselines_line(methods, "e")


def test_prompts_that_were_left_out_are_counted():
    assert text.left_out_line({"left_out": {"validation": 0, "test": 0}}) == ""
    assert text.left_out_line({}) == ""
    line = text.left_out_line({"left_out": {"validation": 1, "test": 1200}})
    assert line.endswith("is missing: 1 validation prompt and 1,200 test prompts.")


def test_the_noise_of_the_seeds_is_described_in_a_sentence(document):
    noise = {
        "noise_share": 0.4,
        "noise_share_interval": [0.3, 0.5],
        "oracle_gain": 1.0,
        "oracle_gain_interval": [0.9, 1.1],
        "learnable_gain": 0.6,
        "learnable_gain_interval": [0.5, 0.7],
        "captured": {"good": {"share": 0.5, "share_interval": [0.4, 0.6]}},
    }

    def line_of(**changes):
        return text.noise_line(document | {"noise": noise | changes})

    line = line_of()
    assert "40% [30%, 50%] is noise of the seeds, and +0.6 [0.5, 0.7] can be learned" in line
    captured = "the router's held-out policy captures 50% [40%, 60%] of the learnable gain."
    assert line.endswith(captured)
    unknown = line_of(captured={"good": {"share": None, "share_interval": None}})
    assert unknown.endswith("can be learned.")
    insignificant = line_of(learnable_gain=-0.1, learnable_gain_interval=[-0.3, 0.1])
    assert "and no significant gain (-0.1 [-0.3, 0.1]) can be learned" in insignificant
    assert "not clearly above 0" in line_of(noise_share=None)
    assert text.noise_line(document | {"noise": None}) == ""


def test_few_test_prompts_give_a_warning(document):
    assert text.few_prompts_line(document) == ""
    assert text.few_prompts_line({"n_test": 30}) == ""
    warning = text.few_prompts_line({"n_test": 1})
    assert warning.startswith("The test split has only 1 prompt, so bootstrap intervals are too")
    few = document | {"n_test": 7}
    assert text.few_prompts_line(few) in summary(few)
