"""Estimators on real scores (CEMS, 4,933 prompts x 4 generators): the table of ``catimage
compare``, not a time.

    python -m benchmarks.cems [FOLDER_OF_A_SENTENCE_TRANSFORMERS_MODEL] [--metric clip_score]

The scores may not be shipped: they are read from ``$CATIMAGE_SHARED/data/scores`` (default
``../shared``). Without a model of real language the estimators read words alone, since the embedded
CLIP knows nothing but the tiny pool's scenes.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from catimage.commands import cross_validate as comparing
from catimage.commands import import_scores as importing
from catimage.params import load_params
from catimage.workspace import Workspace

WORDS: list[Any] = [
    "ridge",
    {"name": "characters", "kind": "ridge", "features": ["tfidf", "characters"]},
]
LANGUAGE: list[Any] = [
    "knn",
    "kernel_ridge",
    {"name": "stack", "members": ["ridge", "characters", "kernel_ridge"]},
]


def run(model: str, metric: str) -> None:
    """Prints the table, or a sentence where the scores are not there."""
    scores = Path(os.environ.get("CATIMAGE_SHARED", "../shared")) / "data" / "scores"
    if not (scores / "cems_dev.scores.csv").exists():
        print(
            f"cems: skipped, since {scores} has no cems_dev.scores.csv: set CATIMAGE_SHARED to the"
            " folder that has it."
        )
        return
    estimators = WORDS + (LANGUAGE if model else [])
    encoder = [f"encoder.model=sentence-transformers:{model}"] if model else []
    settings = [
        f"metric={metric}",
        (
            f"train.estimators={yaml.safe_dump(estimators, default_flow_style=True, width=10**6).strip()}"
        ),
        *encoder,
    ]
    with TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        importing.run(
            workspace, scores / "cems_dev.scores.csv", scores / "cems_dev.costs.csv", settings
        )
        print(comparing.printed(comparing.run(workspace, load_params(workspace.params, None))))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cems",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", nargs="?", default="", help="such as all-MiniLM-L6-v2's folder")
    parser.add_argument("--metric", default="clip_score", choices=["clip_score", "nima"])
    asked = parser.parse_args()
    run(asked.model, asked.metric)
