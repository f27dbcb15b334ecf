import numpy as np
import pytest

from catimage.data.dataset import Candidates
from catimage.errors import InputError
from catimage.evaluation.plateau.steps import parse_budget, step_series

COSTS = np.array([1.0, 2.0, 4.0, 2.5])
CANDIDATES = Candidates(
    ["mini-1", "mini-2", "mini-4", "ddim-2"], COSTS, "tflops", ("mini",) * 4, (1, 2, 4, 2)
)
GROUPS = dict.fromkeys(["mini-1", "mini-2", "mini-4"], "mini") | {"ddim-2": "mini, DDIM"}


@pytest.mark.parametrize("reference", ["mini-4", None])
def test_a_series_has_one_step_group(reference):
    series = step_series(CANDIDATES, GROUPS, reference)
    assert (series.columns, series.steps.tolist()) == ([0, 1, 2], [1, 2, 4])
    assert (series.reference, series.others) == (2, [[3]])


def test_imported_candidates_have_no_steps():
    imported = Candidates(["a", "b"], np.array([1.0, 2.0]), "usd", ("a", "a"), (0, 0))
    with pytest.raises(InputError, match="one generator with at least two numbers of steps"):
        step_series(imported, {"a": "a", "b": "a"}, None)


def test_a_free_candidate_has_no_quality_per_cost():
    free = Candidates(["a", "b"], np.array([0.0, 2.0]), "usd", ("a", "a"), (1, 2))
    with pytest.raises(InputError, match=r"of a is undefined, because its cost is 0\. Leave"):
        step_series(free, {"a": "a", "b": "a"}, None)


def test_a_budget_is_a_number_or_a_percentage():
    costs = np.array([1.0, 8.0])
    assert [parse_budget(text, costs) for text in ("", "40%", "2.5")] == [None, 3.2, 2.5]
    for text in ("much", "nan", "nan%", "inf"):
        with pytest.raises(InputError, match="neither a mean cost nor a percentage"):
            parse_budget(text, costs)
