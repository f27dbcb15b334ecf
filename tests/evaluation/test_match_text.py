import copy

from catimage.evaluation.match_text import match_line
from catimage.evaluation.summary import summary


def with_match(document, **changes):
    """Return a copy of a document in which the match of the router has other values."""
    changed = copy.deepcopy(document)
    changed["methods"]["good"]["selected"]["match"] |= changes
    return changed


def test_the_match_is_stated_before_all_other_comparisons(document):
    line = match_line(document)
    share = document["methods"]["good"]["selected"]["match"]["cost_ratio"]
    assert line.startswith(
        f"The router matches the best single candidate, expensive, at {100 * share:.3g}% of its"
        " cost: lambda "
    )
    assert "is certified on the validation split with a confidence of 95%, and gains +" in line
    text = summary(document)
    assert text.index(line) < text.index("The router gains")


def test_an_insignificant_difference_and_a_loss_on_test_are_stated(document):
    line = match_line(with_match(document, gain=0.001, interval=[-0.01, 0.02]))
    assert line.endswith("and differs by +0.001 [-0.01, 0.02] on the test split.")
    line = match_line(with_match(document, gain=-0.1, interval=[-0.2, -0.05]))
    assert not line.startswith("The router matches")
    assert line.endswith("but is worse on the test split: -0.1 [-0.2, -0.05].")


def test_without_a_certified_lambda_no_match_is_claimed(constant_document):
    assert match_line(constant_document) == (
        "No lambda of the router is certified on the validation split to match the best single"
        " candidate, expensive, with a confidence of 95%."
    )


def test_the_cost_is_not_a_share_if_the_best_single_candidate_is_free(document):
    line = match_line(with_match(document, cost=2.5, cost_ratio=None))
    assert "expensive, at a mean cost of 2.5 seconds: lambda" in line
