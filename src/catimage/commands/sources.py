"""``catimage sources``: record everything that the results of the stages depend on.

DVC runs this command before the stages, and compares the recorded values with those of the last run
of each stage. A stage is out of date if the code that it executes, the version of a package that
this code imports, a parameter that it reads or a file that a parameter names has changed.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.metadata import entry_points, requires
from pathlib import Path
from typing import Any

from catimage.commands.file_cache import FileCache
from catimage.commands.input_files import PACKAGE, InputFiles
from catimage.commands.stage_parameters import parameters
from catimage.common.code import (
    FactsOf,
    code_digest,
    import_closure,
    imported_packages,
    installed_version,
    module_file,
)
from catimage.common.source_facts import SourceFacts, source_facts
from catimage.metrics.registry import ENTRY_POINT_GROUP as METRIC_GROUP
from catimage.metrics.registry import METRICS
from catimage.params import Params
from catimage.pool.registry import BUILT_IN_KINDS
from catimage.pool.registry import ENTRY_POINT_GROUP as KIND_GROUP
from catimage.workspace import STAGES, Workspace, replacing

StageSources = dict[str, Any]
"""The inputs of one stage: ``code``, ``files``, ``packages`` and ``parameters``."""


def run(workspace: Workspace, params: Params) -> None:
    """Write ``data/sources.json``, unless its content is up to date.

    The folder ``data/traffic/``, which DVC versions as an output, is created.
    """
    workspace.traffic.mkdir(parents=True, exist_ok=True)
    path = workspace.root / "data" / "sources.json"
    text = sources_text(workspace, params)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        with replacing(path) as new:
            new.write_text(text, encoding="utf-8")


def sources_text(workspace: Workspace, params: Params) -> str:
    """Return the content of ``data/sources.json``."""
    return json.dumps(stage_sources(workspace, params), indent=1, sort_keys=True) + "\n"


def stage_sources(
    workspace: Workspace, params: Params, stages: Iterable[str] = STAGES
) -> dict[str, StageSources]:
    """Return the inputs of each stage.

    Digests of files are cached in the folder ``.catimage`` of the workspace.

    Args:
        workspace: the workspace.
        params: the parameters of the workspace.
        stages: the names of the stages.
    """
    cache = FileCache(workspace.root / ".catimage" / "digests.json", _version())
    files = InputFiles(workspace, params, cache)
    extensions = installed_modules(params, files.generator_kinds)
    stage_code = StageCode(_cached_facts(cache), extensions)
    sources = {
        stage: {
            **stage_code.inputs(stage),
            "files": files.of(stage),
            "parameters": parameters(stage, params),
        }
        for stage in stages
    }
    cache.save()
    return sources


class StageCode:
    """The code that each stage executes, and the packages of other projects that it imports.

    Args:
        facts: returns the facts of a Python file.
        extensions: modules of other installed packages that the parameters name, each with the
            module of the package that imports it.
    """

    def __init__(
        self, facts: FactsOf = source_facts, extensions: Mapping[str, str] | None = None
    ) -> None:
        self._facts, self._extensions = facts, extensions or {}
        self._version = lru_cache(maxsize=None)(installed_version)

    def closure(self, stage: str) -> list[Path]:
        """Return the Python files that a stage executes; the stage package copies all files."""
        if stage == "package":
            services = (PACKAGE.parents[1] / "bentos").rglob("*.py")
            flows = (PACKAGE / "flows").rglob("*.py")  # a link in a checkout
            return sorted({*PACKAGE.rglob("*.py"), *flows, *services})
        files = set(import_closure(f"catimage.stages.{stage}", facts=self._facts))
        for module, importer in self._extensions.items():
            if module_file(importer) in files:
                within = ("catimage", module.partition(".")[0])
                files |= set(import_closure(module, within=within, facts=self._facts))
        return sorted(files)

    def inputs(self, stage: str) -> StageSources:
        """Return the digest of the code of a stage, and the versions of imported packages."""
        files = self.closure(stage)
        packages = {name: self._version(name) for name in imported_packages(files, self._facts)}
        if stage == "package":
            text = "\n".join(sorted(requires("catimage") or []))
            packages["requirements"] = hashlib.sha256(text.encode()).hexdigest()
        return {"code": code_digest(files, self._facts), "packages": packages}


def _cached_facts(cache: FileCache) -> FactsOf:
    """Return a function that returns the facts of a file and stores them in ``cache``.

    The fields of the parameters and their defaults are not part of the digest: the values that a
    stage reads are among its inputs, so that a new default affects only this stage.
    """

    def facts(path: Path) -> SourceFacts:
        digest, imports, entries = cache.get("code", path, _facts_as_list)
        return SourceFacts(digest, tuple(imports), tuple(entries))

    return lru_cache(maxsize=None)(facts)


def _facts_as_list(path: Path) -> list[Any]:
    facts = source_facts(path, fields=not path.is_relative_to(PACKAGE / "params"))
    return [facts.digest, facts.imports, facts.entries]


def installed_modules(params: Params, generator_kinds: Iterable[str]) -> dict[str, str]:
    """Return the modules of other installed packages that the parameters name.

    Args:
        params: the parameters of a workspace.
        generator_kinds: the kinds of generators of its pool.

    Returns:
        The module that imports each of them, by name of the module.
    """
    terms = (composite.terms for composite in params.label.composites.values())
    metrics = {*params.label.metrics, *params.trained_metrics, *(t for ts in terms for t in ts)}
    modules = {}
    for names, built_in, group, registry in (
        (generator_kinds, BUILT_IN_KINDS, KIND_GROUP, "catimage.pool.registry"),
        (metrics, METRICS, METRIC_GROUP, "catimage.metrics.registry"),
    ):
        if unknown := set(names) - set(built_in):
            for point in entry_points(group=group):
                if point.name in unknown and module_file(point.module) is not None:
                    modules[point.module] = registry
    return modules


def _version() -> str:
    """Return a text that changes with the functions whose values are cached."""
    modules = (module_file(source_facts.__module__), Path(__file__))
    source = b"".join(path.read_bytes() for path in modules if path)
    return f"{sys.version_info[:2]} {hashlib.sha256(source).hexdigest()}"
