import numpy as np
import pandas as pd

from catimage.data.schema import PROMPTS, SCORES
from catimage.evaluation.methods import MetricData, Pool
from catimage.evaluation.test_data import Known
from catimage.evaluation.trial_data import trials_of
from catimage.params import parse_params
from catimage.workspace import Workspace


def test_seeds_that_no_prompt_shares_with_another_are_not_several(tmp_path):
    """Four seeds in the table, but one for each prompt: there is nothing to draw three of."""
    prompts = pd.DataFrame(
        [(f"id{i}", f"prompt {i}", "made up", "train") for i in range(4)], columns=PROMPTS.names
    )
    rows = [(f"id{i}", name, i, "q", "1", 0.5) for i in range(4) for name in "ab"]
    known, labels = Known(prompts, pd.DataFrame(rows, columns=SCORES.names)), np.zeros((4, 2))
    data, pool = (
        MetricData("q", labels, labels, labels),
        Pool(["a", "b"], np.array([1.0, 2.0]), "s"),
    )
    found, why = trials_of(
        Workspace(tmp_path), parse_params({}, "params.yaml"), known, data, prompts, pool
    )
    assert (
        found is None
        and why == "the training prompts have 1 seed, and S (1, 3) must be fewer than there are"
    )
