"""Records of the inputs of outputs, so that no stage combines outputs of different runs.

Each output below records the SHA-256 digests of the outputs that it was computed from: a parquet
table in the metadata of its schema, a JSON document in its key ``inputs``, and the folder of the
estimators in its file ``inputs.json``. Image shards need no record, because a shard's name is the
hash of its plan, which contains its prompts.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catimage.common.files import read_json
from catimage.common.hashing import file_digest, folder_digest
from catimage.data.schema import CANDIDATES, read_inputs, read_table
from catimage.errors import InputError
from catimage.workspace import Workspace

PROMPTS_FILE, CANDIDATES_FILE = "data/prompts.parquet", "data/candidates.parquet"
EMBEDDINGS, MANIFEST = "data/embeddings", "data/images/manifest.json"
SCORES_FILE, VALIDATION = "data/scores.parquet", "reports/validation.json"
ESTIMATORS, ROUTER, METRICS = "models/estimators", "models/router", "reports/metrics.json"
CANDIDATE_DEFINITIONS = f"{CANDIDATES_FILE} without costs"
"""The candidates and their units: the part of the table that does not change with the prices."""

_LABELS = (PROMPTS_FILE, CANDIDATE_DEFINITIONS, SCORES_FILE, EMBEDDINGS)
_TABLES = (PROMPTS_FILE, CANDIDATES_FILE, SCORES_FILE, EMBEDDINGS)
_INPUTS_FILE = "inputs.json"


@dataclass(frozen=True)
class _Output:
    """An output that has a record.

    Attributes:
        command: the command that writes the output.
        record: the file that contains the record.
        inputs: the names of its inputs, from the first to the last stage.
    """

    command: str
    record: str
    inputs: tuple[str, ...]


_OUTPUTS = {
    SCORES_FILE: _Output("label", SCORES_FILE, (PROMPTS_FILE, MANIFEST)),
    VALIDATION: _Output("validate", VALIDATION, _LABELS),
    ESTIMATORS: _Output("train", f"{ESTIMATORS}/{_INPUTS_FILE}", (*_LABELS, VALIDATION)),
    ROUTER: _Output("calibrate", f"{ROUTER}/router.json", (*_TABLES, ESTIMATORS)),
    METRICS: _Output("evaluate", METRICS, (*_TABLES, ESTIMATORS, ROUTER)),
}


class Provenance:
    """Digests of the outputs in a workspace, and checks that they belong together.

    Each digest is computed once per instance. A stage therefore creates an instance when it starts,
    and before it reads its inputs.

    Args:
        workspace: the workspace.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._digests: dict[str, str | None] = {}

    def inputs(self, output: str) -> dict[str, str]:
        """Return the digests of the existing inputs of an output, to be recorded in it.

        Args:
            output: the name of the output, such as :data:`ROUTER`.
        """
        digests = {name: self._digest(name) for name in _OUTPUTS[output].inputs}
        return {name: digest for name, digest in digests.items() if digest is not None}

    def check(self, output: str) -> None:
        """Check that an output was computed from the current versions of its inputs, and that the
        same holds for these inputs.

        Inputs that no longer exist are not compared. The report of the validation does not change
        the estimators; it is compared only if they have to be trained again.

        Args:
            output: the name of the output, such as :data:`ROUTER`.

        Raises:
            InputError: the output does not exist, has no record, or was computed from another
                version of an input. The message names the first command to run.
        """
        problem = self._problem(output)
        for name in _OUTPUTS[output].inputs:
            exists = name != VALIDATION and (self._workspace.root / name).exists()
            if name in _OUTPUTS and (problem is not None or exists):
                self.check(name)
        if problem is not None:
            raise InputError(problem)

    def _problem(self, output: str) -> str | None:
        """Return the error message about an output, or None if it belongs to its inputs."""
        path, command = self._workspace.root / output, self._command(output)
        if not path.exists():
            return f"{path}: not found. Run 'catimage {command}' first."
        recorded = self._recorded(output)
        if recorded is None:
            return (
                f"{path}: another version of CATImage wrote it, without a record of its inputs."
                f" Run 'catimage {command}' again."
            )
        for name, digest in self.inputs(output).items():
            if name != VALIDATION and recorded.get(name) != digest:
                return (
                    f"{path}: was computed from another version of {name}. Run 'catimage"
                    f" {command}' again."
                )
        return None

    def _command(self, output: str) -> str:
        """Return the command that writes an output of this workspace."""
        if output == SCORES_FILE and not (self._workspace.root / MANIFEST).exists():
            return "import-scores"
        return _OUTPUTS[output].command

    def _recorded(self, output: str) -> dict[str, Any] | None:
        """Return the recorded digests of the inputs of an output; None if there is no record."""
        path, command = self._workspace.root / _OUTPUTS[output].record, self._command(output)
        if output == SCORES_FILE:
            return read_inputs(path, command)
        if output == ESTIMATORS and not path.exists():
            return None
        inputs = read_json(path, command).get("inputs")
        return inputs if isinstance(inputs, dict) else None

    def _digest(self, name: str) -> str | None:
        """Return the digest of a file or folder; None if it does not exist."""
        if name not in self._digests:
            file = CANDIDATES_FILE if name == CANDIDATE_DEFINITIONS else name
            path = self._workspace.root / file
            self._digests[name] = _digest_of(path, name) if path.exists() else None
        return self._digests[name]


def _digest_of(path: Path, name: str) -> str:
    """Return the digest of a file or folder.

    The JSON files of embeddings contain digests of their arrays, which are not read.
    """
    if name == CANDIDATE_DEFINITIONS:
        return _digest_of_definitions(path)
    if name == EMBEDDINGS:
        return folder_digest(path, (".json",))
    return folder_digest(path) if path.is_dir() else file_digest(path)


def _digest_of_definitions(path: Path) -> str:
    """Return the digest of the candidates table without the amounts and the order of the costs."""
    table = read_table(path, CANDIDATES, "generate").drop(columns="cost")
    rows = table.astype(str).sort_values(["unit", "candidate"]).to_numpy().tolist()
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def write_inputs(folder: Path, inputs: dict[str, str]) -> None:
    """Write the record of a folder of estimators.

    Args:
        folder: the folder, which :class:`Provenance` calls :data:`ESTIMATORS`.
        inputs: the digests of the inputs (:meth:`Provenance.inputs`).
    """
    (folder / _INPUTS_FILE).write_text(json.dumps({"inputs": inputs}, indent=2) + "\n")
