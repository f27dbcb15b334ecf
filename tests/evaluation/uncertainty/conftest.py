"""Two candidates of equal cost.

``reliable`` has almost the same quality with every seed. ``variable`` is better by 0.1 on average,
but its quality depends strongly on the seed.
"""

import numpy as np

from catimage.data.dataset import Candidates
from catimage.evaluation.uncertainty.risk_aversion import PredictedLabels

CANDIDATES = Candidates(["reliable", "variable"], np.array([1.0, 1.0]), "seconds")


def predictions_and_scores(n, seed, seeds=3):
    """Return predictions with the true spread, and scores (n, 2, seeds).

    The standard deviations of the two candidates over seeds are 0.01 and 1.
    """
    rng = np.random.default_rng(seed)
    by_seed = np.stack(
        [rng.normal(0.5, 0.01, (n, seeds)), rng.normal(0.6, 1.0, (n, seeds))], axis=1
    )
    spread = np.array([0.01, 1.0]) / np.sqrt(seeds)
    return PredictedLabels(np.tile([0.5, 0.6], (n, 1)), np.tile(spread, (n, 1))), by_seed
