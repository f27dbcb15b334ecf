"""A workspace whose outputs the fake stages of the flow tests copy."""

from __future__ import annotations

import json
from pathlib import Path

from catimage.stages import evaluate
from tests.provenance import record_inputs
from tests.trained_workspace import train_workspace


def prepare_workspace(folder: Path) -> Path:
    """Write every output of the eight stages to a folder, and return it."""
    workspace, params = train_workspace(folder)
    evaluate.run(workspace, params)
    for name in ("data/embeddings/tiny", "data/images", "dist/bento"):
        (workspace.root / name).mkdir(parents=True)
        (workspace.root / name / "one").write_text("1")
    record_inputs(workspace)
    (workspace.dist / "bento.json").write_text(json.dumps({"tag": "catimage:0123"}))
    return workspace.root
