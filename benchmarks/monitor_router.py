"""The router and the prompts with scores of the benchmark ``monitor_outcomes``.

The scores are ImageReward of 24 real candidates (FlashEval), in ``$CATIMAGE_SHARED/data/scores``.
The router is trained by the stages, with their default parameters, on :data:`PROMPTS` captions of
COCO; the traffic is drawn from the other captions, from the prompts of DiffusionDB with scores, and
from PartiPrompts, which have no scores.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.monitor_data import read_prompts, shared_folder
from catimage.commands.monitor_inputs import expected_behaviour
from catimage.commands.monitor_state import MonitorState
from catimage.common.arrays import Floats
from catimage.data.importers.scores import parse_scores
from catimage.data.score_rows import ScoreRows
from catimage.monitoring.expected import Expected
from catimage.params import load_params
from catimage.router import Router
from catimage.workspace import Workspace

METRIC, PROMPTS = "image_reward", 2500
FILES = {"coco": "flasheval_dev", "diffusiondb": "flasheval_diffusiondb_dev"}


@dataclass(frozen=True)
class Kind:
    """Prompts of one kind.

    Attributes:
        predicted: the predictions of the router, (n_prompts, n_candidates).
        labels: the scores, (n_prompts, n_candidates); None for prompts without scores.
        qualities: the predictions as in the decision log, (n_prompts,) mappings by candidate.
    """

    predicted: Floats
    labels: Floats | None
    qualities: np.ndarray

    @classmethod
    def of(cls, router: Router, prompts: list[str], labels: Floats | None) -> Kind:
        """Predict the qualities of prompts."""
        predicted = router.predict(prompts)
        qualities = np.empty(len(prompts), object)
        qualities[:] = [dict(zip(router.candidates, row, strict=True)) for row in predicted]
        return cls(predicted, labels, qualities)


@dataclass(frozen=True)
class Traffic:
    """The router, its expected behaviour, and the prompts by kind."""

    router: Router
    expected: Expected
    prompts_by_kind: dict[str, Kind]


def available() -> bool:
    """Return whether the folder of the scores is there."""
    return _scores("coco").exists()


def traffic(pace: bool = True, seed: int = 0, n_prompts: int = PROMPTS) -> Traffic:
    """Train the router, and predict the prompts of all kinds.

    Args:
        pace: the setting ``serving.pace``.
        seed: seed of the split of the captions of COCO.
        n_prompts: number of captions that the router is trained, calibrated and evaluated on.
    """
    texts = {kind: _table(kind) for kind in FILES}
    order = np.random.default_rng(seed).permutation(len(texts["coco"][0]))
    known, new = order[:n_prompts], order[n_prompts:]
    with TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        _train(workspace, {texts["coco"][0][i] for i in known})
        params = load_params(workspace.params, [f"serving.pace={str(pace).lower()}"])
        router = Router.load(workspace.router)
        expected = expected_behaviour(workspace, params, MonitorState())
    by_kind = {}
    for kind, (prompts, names, labels) in texts.items():
        rows = new if kind == "coco" else np.arange(len(prompts))
        columns = [names.index(name) for name in router.candidates]
        by_kind[kind] = Kind.of(router, [prompts[i] for i in rows], labels[rows][:, columns])
    by_kind["partiprompts"] = Kind.of(router, read_prompts("partiprompts"), None)
    return Traffic(router, expected, by_kind)


def _scores(kind: str) -> Path:
    return shared_folder().parent / "scores" / f"{FILES[kind]}.scores.parquet"


def _table(kind: str) -> tuple[list[str], list[str], Floats]:
    """Return prompts, names of candidates, and labels, (n_prompts, n_candidates)."""
    file = parse_scores(_scores(kind)).select_metric(METRIC)
    ids = file.prompts["prompt_id"].tolist()
    names = sorted(file.scores["candidate"].unique())
    labels = ScoreRows.select(file.scores, METRIC, ids, names, file.path).labels()
    return file.prompts["prompt"].tolist(), names, labels


def _train(workspace: Workspace, prompts: set[str]) -> None:
    """Import the scores of some prompts, and run the stages until calibrate."""
    import pandas as pd

    source = _scores("coco")
    table = pd.read_parquet(source)
    scores = workspace.root / "scores.csv"
    normalised = table["prompt"].str.split().str.join(" ")
    table[normalised.isin(prompts) & (table["metric"] == METRIC)].to_csv(scores, index=False)
    costs = source.with_name(f"{FILES['coco']}.costs.csv")
    importing = ["import-scores", str(scores), "--costs", str(costs), "--set", f"metric={METRIC}"]
    for command in (importing, ["validate"], ["train"], ["calibrate"]):
        subprocess.run(
            [sys.executable, "-m", "catimage.cli.app", *command, "--workspace", workspace.root],
            check=True,
            stdout=subprocess.DEVNULL,
        )
