"""A synthetic step series."""

import numpy as np

from catimage.evaluation.plateau.conditions import Baseline, StepData
from catimage.routing.plateau import turning_points

STEPS = np.array([1, 2, 4, 8, 16])
COST = STEPS + 1.0


def step_data(n=200, noise=0.0, seed=0):
    """Return a step series in which half of the prompts need 2 steps and the others 16.

    The estimator ``lstm`` predicts the labels with noise, ``constant`` the mean of the labels.
    """
    rng = np.random.default_rng(seed)
    steps_scale = (
        np.where(np.arange(n) % 2, 0.5, 5.0)[:, None, None] * np.array([1.0, 1.5])[None, :, None]
    )
    quality = 1.2 - np.exp(-STEPS / steps_scale) + 0.01 * rng.standard_normal((n, 2, 1))
    predicted = quality + noise * rng.standard_normal(quality.shape)
    constant = np.broadcast_to(quality.mean(axis=0), quality.shape)
    return StepData(
        candidates=[f"sd-{s}" for s in STEPS],
        steps=STEPS,
        cost=COST,
        unit="tflops",
        metrics=["sharp", "alike"],
        inversion_constants={"sharp": 1.0},
        quality=quality,
        predicted={"lstm": predicted, "constant": constant},
        mean=quality.mean(axis=0),
        reference=3,
        seconds=np.broadcast_to(0.1 * STEPS, (n, 5)),
        baselines=[Baseline("ddim-4", 5.0, quality[:, :, 2] - 0.1)],
    )


def predicted_turning_points(data, omega=(0.3, 0.3)):
    """Return the position of the number of steps that the plateau rule chooses for each prompt."""
    return turning_points(data.predicted["lstm"], np.array(omega))
