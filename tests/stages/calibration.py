"""A workspace with estimators of two metrics, for the tests of the stage calibrate."""

import json
import shutil

import pandas as pd

from catimage.data.dataset import Dataset
from catimage.data.schema import SCORES, read_table, write_table
from catimage.estimators import store
from catimage.params import CalibrateParams
from catimage.router import Router
from catimage.stages import calibrate
from catimage.workspace import Workspace
from tests.provenance import record_inputs
from tests.trained_workspace import train_workspace


def train_two_metrics(root):
    """Train estimators of two metrics: clip_score, and sharpness, which is 1 minus clip_score.

    Returns:
        The workspace and its parameters.
    """
    workspace, params = train_workspace(root)
    scores = read_table(workspace.scores, SCORES, "label")
    sharpness = scores.assign(metric="sharpness", value=1 - scores["value"])
    write_table(pd.concat([scores, sharpness]), workspace.scores, SCORES)
    folder = workspace.estimators / "sharpness" / "ridge"
    shutil.copytree(workspace.estimators / "clip_score" / "ridge", folder)
    estimator, meta = store.load(folder)
    train = Dataset.read(workspace, params.cost_unit).split("train")
    fitted = estimator.fit(train.texts, train.labels("sharpness"))
    store.save(fitted, folder, meta | {"metric": "sharpness"})
    record_inputs(workspace)
    return workspace, params


def copy_workspace(trained_workspace, folder):
    """Copy a workspace to a folder, and return the copy and its parameters."""
    workspace, params = trained_workspace
    return Workspace(shutil.copytree(workspace.root, folder)), params


def run_calibrate(trained_copy, budget="60%", **settings):
    """Run the stage calibrate, and return the router and the content of router.json.

    The tables and estimators may have been changed by the test.

    The default budget is 2.4: 60% of the cost of the most expensive candidate, 4.
    """
    workspace, params = trained_copy
    record_inputs(workspace)
    changes = {"budget": budget, "calibrate": CalibrateParams(**settings)}
    calibrate.run(workspace, params.model_copy(update=changes))
    return Router.load(workspace.router), json.loads((workspace.router / "router.json").read_text())


def validation_means(trained_copy, router):
    """Return the mean cost, clip_score and sharpness of the router on the validation split."""
    workspace, params = trained_copy
    val = Dataset.read(workspace, params.cost_unit).split("val")
    texts, labels = val.texts.tolist(), val.labels("clip_score")
    chosen_by_part = router.rule.choose_by_part(
        router.rule_inputs(texts, router.predict(texts)), router.costs
    )
    return tuple(
        router.rule.expected(chosen_by_part, values).mean()
        for values in (router.costs, labels, 1 - labels)
    )
