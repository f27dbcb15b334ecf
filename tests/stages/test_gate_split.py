"""The prompts of the split ``gate`` are for the promotion of routers; nothing else uses them."""

import csv
import json

import numpy as np
import pandas as pd
import pytest

from catimage.commands import cross_validate, import_scores
from catimage.data.dataset import Dataset
from catimage.data.prompts.identity import split_of
from catimage.data.schema import PROMPTS, read_table
from catimage.estimators import store
from catimage.estimators.load_estimators import OUT_OF_FOLD
from catimage.params import load_params
from catimage.stages import calibrate, evaluate, train, validate
from catimage.workspace import Workspace

ESTIMATORS = (
    "[{name: ridge, settings: {alpha: 3}}, {name: letters, kind: ridge, features: [characters]},"
    " {name: both, kind: stack, members: [ridge, letters]}]"
)
QUALITY = {"cheap": (0.62, 0.30), "middle": (0.61, 0.50), "expensive": (0.60, 0.70)}
PROMPT_COUNT = 300
NOT_COMPARED = {"inputs", "fit_seconds", "decision_ms"}
"""Keys with digests of the inputs, which include the labels of the gate, and with times."""


def write_scores(path, changed):
    """Write scores of the prompts at two seeds; if ``changed``, those of the gate are others."""
    rng, rows = np.random.default_rng(0), []
    for i in range(PROMPT_COUNT):
        prompt = f"{('plain', 'crowded')[i % 2]} scene number {i}"
        is_changed = changed and split_of(prompt, 0.1) == "gate"
        for candidate, quality in QUALITY.items():
            for seed in (0, 1):
                value = quality[i % 2] + rng.normal(0, 0.02)
                value = -100 * value if is_changed else value
                rows += [
                    [prompt, candidate, seed, m, v] for m, v in (("q", value), ("r", 2 * value))
                ]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["prompt", "candidate", "seed", "metric", "value"], *rows])


def run(root, changed):
    """Import scores, and run all stages that read them and the command ``compare``."""
    costs = root / "costs.csv"
    costs.write_text("candidate,cost,unit\ncheap,1,usd\nmiddle,3,usd\nexpensive,9,usd\n")
    write_scores(root / "scores.csv", changed)
    workspace = Workspace(root / "workspace")
    settings = ["metric=q", "train.metrics=[r]", "budget=60%", "evaluate.bootstrap=200"]
    settings += [f"train.estimators={ESTIMATORS}", "train.folds=2"]
    import_scores.run(workspace, root / "scores.csv", costs, settings)
    params = load_params(workspace.params)
    for stage in (validate, train, calibrate, evaluate):
        stage.run(workspace, params)
    cross_validate.run(workspace, params, folds=2)
    return workspace


@pytest.fixture(scope="module")
def workspaces(tmp_path_factory):
    """Two workspaces that differ only in the labels of the gate."""
    return [run(tmp_path_factory.mktemp("gate"), changed) for changed in (False, True)]


def compared(value):
    """Return a JSON document without the keys :data:`NOT_COMPARED`."""
    if isinstance(value, dict):
        return {k: compared(v) for k, v in value.items() if k not in NOT_COMPARED}
    return [compared(v) for v in value] if isinstance(value, list) else value


def contents(folder):
    """Return the contents of all files in a folder: of JSON files without some keys, of estimators
    their predictions, since files of skops contain times.
    """
    texts = np.array([f"a new scene {i}" for i in range(50)], object)
    result = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.suffix == ".skops":
            content = store.load(path.parent)[0].predict(texts).tolist()
        elif path.suffix == ".json":
            content = compared(json.loads(path.read_text()))
        else:
            content = path.read_bytes()
        result[str(path.relative_to(folder))] = content
    return result


def test_the_labels_of_the_gate_change_no_estimator_no_router_and_no_result(workspaces):
    labels = [Dataset.read(workspace, "usd").split("gate").labels("q") for workspace in workspaces]
    assert labels[0].shape[0] > 20 and (labels[0] != labels[1]).all()
    for name in ("models/estimators", "models/router", "reports/plots"):
        first, second = (contents(workspace.root / name) for workspace in workspaces)
        assert len(first) > 1 and first == second
    for name in ("metrics.json", "comparison.json"):
        first, second = (
            compared(json.loads((workspace.reports / name).read_text())) for workspace in workspaces
        )
        assert first == second


def test_estimators_are_trained_on_the_train_split_only(workspaces):
    prompts = read_table(workspaces[0].prompts, PROMPTS, "import-scores")
    counts = prompts["split"].value_counts()
    document = json.loads((workspaces[0].reports / "metrics.json").read_text())
    assert document["n_test"] == counts["test"]
    comparison = json.loads((workspaces[0].reports / "comparison.json").read_text())
    assert comparison["n_prompts"] == PROMPT_COUNT - counts["gate"]
    train_ids = prompts.loc[prompts["split"] == "train", "prompt_id"]
    paths = list(workspaces[0].estimators.glob(f"*/*/{OUT_OF_FOLD}"))
    assert len(paths) == 6
    for path in paths:
        assert pd.read_parquet(path, partitioning=None)["prompt_id"].tolist() == train_ids.tolist()
