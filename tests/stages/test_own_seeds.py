"""Imported scores whose prompts, or even images, have seeds of their own."""

import csv
import json

import numpy as np
import pytest

from catimage.commands import import_scores
from catimage.params import load_params
from catimage.stages import calibrate, evaluate, train, validate
from catimage.workspace import Workspace

QUALITY = {"cheap": (0.62, 0.30), "expensive": (0.60, 0.70)}
SEEDS = {
    "one seed": lambda prompt, candidate: 0,
    "a seed per prompt": lambda prompt, candidate: 7919 * prompt % 1009,
    "a seed per image": lambda prompt, candidate: (2 * prompt + candidate) * 2**50 + 5,
}


def metrics_document(root, seed_of):
    """Import scores, run all stages up to evaluate, and return ``metrics.json``."""
    rng, rows = np.random.default_rng(0), []
    for i in range(250):
        for m, (candidate, quality) in enumerate(QUALITY.items()):
            value = quality[i % 2] + rng.normal(0, 0.05)
            prompt = f"{('plain', 'crowded')[i % 2]} scene number {i}"
            rows.append([prompt, candidate, seed_of(i, m), "quality", value])
    with (root / "scores.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["prompt", "candidate", "seed", "metric", "value"], *rows])
    (root / "costs.csv").write_text("candidate,cost,unit\ncheap,1,usd\nexpensive,9,usd\n")
    workspace = Workspace(root / "workspace")
    settings = ["budget=60%", "evaluate.bootstrap=100"]
    import_scores.run(workspace, root / "scores.csv", root / "costs.csv", settings)
    params = load_params(workspace.params)
    for stage in (validate, train, calibrate, evaluate):
        stage.run(workspace, params)
    return json.loads((workspace.reports / "metrics.json").read_text())


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return metrics_document(tmp_path_factory.mktemp("one"), SEEDS["one seed"])


@pytest.mark.parametrize("kind", ["a seed per prompt", "a seed per image"])
def test_seeds_of_their_own_do_not_change_the_results(kind, expected, tmp_path):
    document = metrics_document(tmp_path, SEEDS[kind])
    for key in ("inputs", "decision_ms"):
        expected.pop(key, None), document.pop(key, None)
    assert document == expected
