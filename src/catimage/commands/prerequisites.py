"""Check that the outputs of the earlier stages exist, before a command reads them.

If several are missing, the message names the first command to run, not the last one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from catimage.errors import InputError
from catimage.params import Params
from catimage.workspace import Workspace

_OUTPUTS: tuple[tuple[str, Callable[[Workspace], Path]], ...] = (
    ("sample", lambda workspace: workspace.prompts),
    ("generate", lambda workspace: workspace.candidates),
    ("label", lambda workspace: workspace.scores),
    ("validate", lambda workspace: workspace.reports / "validation.json"),
    ("train", lambda workspace: workspace.estimators),
    ("calibrate", lambda workspace: workspace.router),
    ("evaluate", lambda workspace: workspace.reports / "metrics.json"),
)
"""The stages in their order, each with an output whose absence shows that it has not run."""
_NEEDED: dict[str, tuple[str, ...]] = {
    "generate": ("sample",),
    "label": ("sample", "generate"),
    "validate": ("sample", "generate", "label"),
    "train": ("sample", "generate", "label", "validate"),
    "calibrate": ("sample", "generate", "label", "train"),
    "evaluate": ("sample", "generate", "label", "train", "calibrate"),
    "add-candidate": ("sample", "generate", "label", "train", "calibrate"),
    "package": ("calibrate",),
    "route": ("calibrate",),
    "register": ("calibrate", "evaluate"),
    "monitor": ("calibrate",),
}
"""The stages whose outputs a command reads."""
_IMPORTED: dict[str, tuple[str, ...]] = {
    "scores": ("sample", "generate", "label"),
    "images": ("sample", "generate"),
}
"""The stages that an import replaces, by ``import.kind``."""


def check_prerequisites(workspace: Workspace, params: Params, command: str) -> None:
    """Check that every earlier stage whose output ``command`` reads has run.

    Raises:
        InputError: an output is missing. The message names the first command to run.
    """
    paths = {stage: path(workspace) for stage, path in _OUTPUTS}
    missing = [stage for stage, path in paths.items() if not path.exists()]
    if not set(missing) & set(_NEEDED.get(command, ())):
        return
    first = missing[0]
    kind = params.imported.kind if params.imported else None
    if kind and first in _IMPORTED[kind]:
        fix = f"Run 'catimage import-{kind}' again."
    elif first == "sample":
        fix = "Run 'catimage sample' first, or 'catimage import-scores' if you have scores."
    else:
        fix = f"Run 'catimage {first}' first."
    raise InputError(f"{paths[first]}: not found. {fix}")
