"""The files that the results of each stage depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from catimage.commands.file_cache import MISSING, FileCache, files_in
from catimage.commands.pool_costs import without_amounts, without_costs
from catimage.common.paths import existing_path
from catimage.common.yaml_files import read_yaml
from catimage.errors import InputError
from catimage.params import EncoderParams, Params
from catimage.pool.loading import PACKAGED, find_pool_file
from catimage.workspace import Workspace

PACKAGE = PACKAGED.parent
"""The folder of the package."""
TINY = PACKAGED / "tiny" / "clip"
"""The folder of the embedded CLIP, the text encoder ``tiny``."""
LONGEST_KEY = 60
"""Maximum number of characters of a key in ``data/sources.json``."""
FILES: Mapping[str, tuple[str, ...]] = {
    "sample": ("prompts", "encoder"),
    "generate": ("pool", "generators", "equivalents"),
    "label": ("encoder", "weights", "images"),
    "validate": ("candidates", "expectations", "champion"),
    "train": ("encoder", "features", "candidates"),
    "calibrate": ("features",),
    "evaluate": (
        "encoder",
        "features",
        "embedded",
        "weights",
        "references",
        "outcomes",
        "pool",
        "templates",
    ),
    "package": ("encoder", "features", "pool", "generators", "package"),
}
"""The kinds of files that each stage reads; see :class:`InputFiles`. The tables that stages read
are dependencies in ``dvc.yaml``."""


class InputFiles:
    """The digests of the files and folders that the parameters of a workspace name.

    The digest of a path that does not exist is ``missing``: the stage that reads it reports it.

    Args:
        workspace: the workspace.
        params: its parameters.
        cache: the cache of the digests.
    """

    def __init__(self, workspace: Workspace, params: Params, cache: FileCache) -> None:
        self._workspace, self._params, self._digest = workspace, params, cache.digest
        self._readers: Mapping[str, Callable[[], Iterator[tuple[str, str]]]] = {
            "prompts": self._prompts,
            "encoder": self._encoder,
            "features": self._features,
            "embedded": self._embedded,
            "weights": self._weights,
            "references": self._references,
            "outcomes": self._outcomes,
            "pool": self._pool,
            "candidates": self._candidates,
            "images": self._images,
            "generators": self._generators,
            "expectations": self._expectations,
            "champion": self._champion,
            "equivalents": self._equivalents,
            "templates": self._templates,
            "package": self._package,
        }
        self._pool_tree = self._read_pool()

    def of(self, stage: str) -> dict[str, str]:
        """Return the digests of the files that a stage reads, by the setting that names them."""
        entries = (entry for kind in FILES[stage] for entry in self._readers[kind]())
        return {record_key(name): digest for name, digest in entries}

    @property
    def generator_kinds(self) -> set[str]:
        """The kinds of generators that the pool names."""
        generators = self._pool_tree.get("generators")
        entries = generators.values() if isinstance(generators, dict) else ()
        return {str(e["kind"]) for e in entries if isinstance(e, dict) and "kind" in e}

    def _prompts(self) -> Iterator[tuple[str, str]]:
        for source in self._params.sample.sources:
            if source.kind == "file":
                path = existing_path(self._workspace.root, source.path)
                yield f"sample.sources {source.path}", self._digest(path)
            elif source.kind == "decisions":
                path = self._workspace.traffic_prompts
                yield "sample.sources decisions", self._digest(path)

    def _encoder(self) -> Iterator[tuple[str, str]]:
        yield from self._encoder_files("encoder", self._params.encoder)

    def _features(self) -> Iterator[tuple[str, str]]:
        for estimator in self._params.train.estimators:
            for feature in estimator.features:
                if feature.encoder is not None:
                    yield from self._encoder_files("train.estimators encoder", feature.encoder)

    def _encoder_files(self, key: str, encoder: EncoderParams) -> Iterator[tuple[str, str]]:
        """Yield the local folder and the file of weights of a text encoder, if it has these."""
        prefix, _, name = encoder.model.partition(":")
        if encoder.model == "tiny":
            yield f"{key} tiny", self._digest(TINY)
        elif name and (prefix == "local-dir" or Path(name).expanduser().is_dir()):
            yield f"{key} {name}", self._digest(Path(name).expanduser())
        if encoder.weights and Path(encoder.weights).is_file():
            yield f"{key} {encoder.weights}", self._digest(Path(encoder.weights))

    def _embedded(self) -> Iterator[tuple[str, str]]:
        """Yield the embedded CLIP, which metrics of sets of images use with any text encoder."""
        yield "embedded CLIP", self._digest(TINY)

    def _weights(self) -> Iterator[tuple[str, str]]:
        for metric, source in self._params.label.weights.items():
            if Path(source.weights).exists():  # otherwise the id of a repository on the hub
                yield f"label.weights {metric}", self._digest(Path(source.weights))

    def _references(self) -> Iterator[tuple[str, str]]:
        if folder := self._params.evaluate.reference_images:
            path = self._workspace.root / folder
            yield f"evaluate.reference_images {folder}", self._digest(path)

    def _outcomes(self) -> Iterator[tuple[str, str]]:
        if self._workspace.outcomes.exists():
            yield "logged outcomes", self._digest(self._workspace.outcomes)

    def _read_pool(self) -> dict[str, Any]:
        """Return the content of the pool file; empty if the file is missing or invalid."""
        try:
            path = find_pool_file(self._params.pool, self._workspace.pools)
            tree = read_yaml(path)
        except (InputError, OSError):
            return {}
        return tree if isinstance(tree, dict) else {}

    def _pool(self) -> Iterator[tuple[str, str]]:
        """Yield the digest of the values in the pool file, without its comments."""
        yield self._pool_digest(self._pool_tree)

    def _candidates(self) -> Iterator[tuple[str, str]]:
        """Yield the digest of the pool file without the amounts of prices and costs.

        No amount changes an image, a score or an estimator. Which candidates have a cost in which
        unit is part of it: stage ``validate`` checks that, and estimators depend on its report.
        """
        yield self._pool_digest(without_amounts(self._pool_tree))

    def _images(self) -> Iterator[tuple[str, str]]:
        """Yield the digest of the pool file without prices, costs and units."""
        yield self._pool_digest(without_costs(self._pool_tree))

    def _pool_digest(self, tree: dict[str, Any]) -> tuple[str, str]:
        text = json.dumps(tree, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest() if self._pool_tree else MISSING
        return f"pool {self._params.pool}", digest

    def _generators(self) -> Iterator[tuple[str, str]]:
        """Yield the files and folders that the generators of the pool name, and the packaged
        configurations, from which costs are counted.
        """
        yield "pool configurations", self._digest(PACKAGED / "configurations")
        try:
            folder = find_pool_file(self._params.pool, self._workspace.pools).parent
        except InputError:
            return
        for text in sorted(set(_texts(self._pool_tree.get("generators")))):
            if _exists(folder / text):
                yield f"pool weights {text}", self._digest(folder / text)

    def _expectations(self) -> Iterator[tuple[str, str]]:
        context = self._workspace.root / "expectations"
        if (context / "great_expectations.yml").exists():
            yield "expectations", self._digest(context / "suites")

    def _champion(self) -> Iterator[tuple[str, str]]:
        """Yield the labels of the champion, with which ``validate`` compares."""
        if self._workspace.champion_labels.exists():
            yield "champion", self._digest(self._workspace.champion_labels)

    def _equivalents(self) -> Iterator[tuple[str, str]]:
        """Yield the declarations of changed code that generates the same images."""
        yield "equivalent code", self._data_digest(PACKAGE / "pool")

    def _templates(self) -> Iterator[tuple[str, str]]:
        """Yield the digest of the templates and style sheets of the report."""
        yield "templates of the report", self._data_digest(PACKAGE / "evaluation")

    def _package(self) -> Iterator[tuple[str, str]]:
        """Yield the digest of the files in the wheel of the package that are not code."""
        yield "data of the package", self._data_digest(PACKAGE)

    def _data_digest(self, folder: Path) -> str:
        """Return the digest of the files in a folder of the package that are not Python files."""
        paths = sorted(path for path in files_in(folder) if path.suffix != ".py")
        lines = (f"{path.relative_to(folder).as_posix()} {self._digest(path)}\n" for path in paths)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def record_key(name: str) -> str:
    """Return the key of a file in ``data/sources.json``; the end of a long name, and its hash.

    DVC folds longer keys with spaces in ``dvc.lock``, and then cannot read this file.
    """
    if len(name) <= LONGEST_KEY:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{name.partition(' ')[0]} {digest} ...{name[-30:]}"


def _texts(tree: Any) -> Iterator[str]:
    """Yield the strings in a tree of dictionaries and lists, without keys."""
    if isinstance(tree, dict | list):
        for item in tree.values() if isinstance(tree, dict) else tree:
            yield from _texts(item)
    elif isinstance(tree, str) and tree.strip(". /"):
        yield tree


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # the text is not a valid path
        return False
