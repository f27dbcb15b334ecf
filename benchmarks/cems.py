"""Estimators on real scores: the table of ``catimage compare`` on CEMS.

    python -m benchmarks.cems [MODEL] [--metric clip_score]

CEMS has 4,933 prompts and 4 generators. Its scores may not be redistributed, so they are read from
``$CATIMAGE_SHARED/data/scores`` (default ``../shared``). MODEL is the folder of a
sentence-transformers model. Without one, only estimators on words and characters are compared,
because the embedded CLIP is trained only on captions of the tiny pool's scenes.
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
"""Estimators on words and characters."""
SEMANTIC: list[Any] = [
    "knn",
    "kernel_ridge",
    {"name": "stack", "members": ["ridge", "characters", "kernel_ridge"]},
]
"""Estimators on embeddings of the sentence-transformers model."""


def run(model: str, metric: str) -> None:
    """Print the table of one metric, or the reason why it is skipped.

    Args:
        model: folder of a sentence-transformers model, or an empty string.
        metric: ``clip_score`` or ``nima``.
    """
    folder = Path(os.environ.get("CATIMAGE_SHARED", "../shared")) / "data" / "scores"
    scores, costs = folder / "cems_dev.scores.csv", folder / "cems_dev.costs.csv"
    if not scores.exists():
        print(f"cems: skipped, {scores} not found. Set CATIMAGE_SHARED to the shared folder.")
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
    settings = [f"metric={metric}", f"train.estimators={as_yaml}"]
    if model:
        settings.append(f"encoder.model=sentence-transformers:{model}")
    return settings


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cems",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", nargs="?", default="", help="folder, such as all-MiniLM-L6-v2's")
    parser.add_argument("--metric", default="clip_score", choices=["clip_score", "nima"])
    arguments = parser.parse_args()
    run(arguments.model, arguments.metric)
