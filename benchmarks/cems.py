"""Comparison of estimators on real scores, the data set CEMS, by ``catimage compare``.

    python -m benchmarks.cems [MODEL] [--metric clip_score]

CEMS has 4,933 prompts and 4 generators. Its scores may not be redistributed, so they are read from
``$CATIMAGE_SHARED/data/scores`` (default ``../shared``). MODEL is the folder of a
sentence-transformers model. If it is omitted, only estimators whose features are words and
characters are compared, because the text encoder of the package is trained only on captions of the
scenes of the embedded pool ``tiny``.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from catimage.commands import cross_validate, import_scores
from catimage.params import load_params
from catimage.workspace import Workspace

LEXICAL: list[Any] = [
    "ridge",
    {"name": "characters", "kind": "ridge", "features": ["tfidf", "characters"]},
]
"""Estimators whose features are words and characters."""
SEMANTIC: list[Any] = [
    "knn",
    "kernel_ridge",
    {"name": "stack", "members": ["ridge", "characters", "kernel_ridge"]},
]
"""Estimators that use the embeddings of the sentence-transformers model."""


def run(model: str, metric: str) -> None:
    """Print the table of one metric, or a message if the scores are not found.

    Args:
        model: the folder of a sentence-transformers model, or an empty string.
        metric: ``clip_score`` or ``nima``.
    """
    folder = Path(os.environ.get("CATIMAGE_SHARED", "../shared")) / "data" / "scores"
    scores, costs = folder / "cems_dev.scores.csv", folder / "cems_dev.costs.csv"
    if not scores.exists():
        print(f"{scores}: not found, cems is skipped. Set CATIMAGE_SHARED to the shared folder.")
        return
    with TemporaryDirectory() as root:
        workspace = Workspace(Path(root))
        import_scores.run(workspace, scores, costs, _settings(model, metric))
        params = load_params(workspace.params, None)
        print(cross_validate.to_text(cross_validate.run(workspace, params)))


def _settings(model: str, metric: str) -> list[str]:
    """Return the settings of the workspace as ``key=value``."""
    estimators = LEXICAL + (SEMANTIC if model else [])
    as_yaml = yaml.safe_dump(estimators, default_flow_style=True, width=10**6).strip()
    settings = [f"metric={metric}", f"train.estimators={as_yaml}", "import.gate_share=0"]
    if model:
        settings.append(f"encoder.model=sentence-transformers:{model}")
    return settings


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cems",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", nargs="?", default="", help="folder of a sentence-transformers model"
    )
    parser.add_argument("--metric", default="clip_score", choices=["clip_score", "nima"])
    arguments = parser.parse_args()
    run(arguments.model, arguments.metric)
