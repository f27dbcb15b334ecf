"""Reads and checks pool files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from catimage.common.names import check_name
from catimage.common.schema_errors import first_problem
from catimage.common.yaml_files import read_yaml
from catimage.errors import InputError, nearest
from catimage.pool.registry import (
    DEFAULT_KIND,
    kind_class,
    kind_names,
    kind_of,
    unknown_kind_message,
)
from catimage.pool.spec import Candidate, GeneratorSpec, Pool

PACKAGED = Path(__file__).parents[1] / "pools"
"""The folder of the pools in the package. A workspace's own pools take precedence."""


def load_pool(name_or_file: str, workspace_pools: Path | None = None) -> Pool:
    """Read and check a pool file. The weights are not read.

    Args:
        name_or_file: path of a YAML file, or the name of a pool in ``workspace_pools`` or in the
            package.
        workspace_pools: the folder of the workspace's own pools.

    Raises:
        InputError: there is no such pool, the file is not YAML, a key or kind is unknown, a value
            is invalid, two candidates have the same name or the same settings, or a generator or
            candidate that is referred to does not exist.
    """
    path = find_pool_file(name_or_file, workspace_pools)
    tree = _read_yaml(path)
    try:
        if isinstance(tree.get("generators"), dict):
            tree["generators"] = {
                name: _parse_generator(path, name, entry)
                for name, entry in tree["generators"].items()
            }
        pool = Pool.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"{path}: {_validation_message(error, Pool)}") from error
    pool.set_file(path)
    _check_pool(pool, path)
    return pool


def find_pool_file(name_or_file: str, workspace_pools: Path | None) -> Path:
    """Return the path of a pool file; see :func:`load_pool`.

    Raises:
        InputError: there is no such pool.
    """
    if name_or_file.endswith((".yaml", ".yml")) or "/" in name_or_file:
        path = Path(name_or_file)
        if not path.is_file():
            raise InputError(
                f"{name_or_file}: the pool file is not found. Correct the path, or give the name"
                " of a pool."
            )
        return path
    folders = [folder for folder in (workspace_pools, PACKAGED) if folder]
    for folder in folders:
        path = folder / f"{name_or_file}.yaml"
        if path.is_file():
            return path
    names = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
    raise InputError(
        f"pool: {name_or_file!r} is not found in {' or '.join(map(str, folders))}"
        f"{nearest(name_or_file, names)}. Use one of {', '.join(names)}, or the"
        " path of a pool file."
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that contains a mapping."""
    tree = read_yaml(path)
    if not isinstance(tree, dict):
        keys = ", ".join(Pool.model_fields)
        raise InputError(f"{path}: is not a mapping. Write the keys {keys}.")
    return tree


def _parse_generator(path: Path, name: str, entry: Any) -> GeneratorSpec:
    """Validate the entry of one generator with the schema of its kind."""
    where = f"generators.{name}"
    if not isinstance(entry, dict):
        raise InputError(f"{path}: key {where!r}: is not a mapping. Add 'key: value' lines.")
    kind = str(entry.get("kind", DEFAULT_KIND))
    if kind not in kind_names():
        raise InputError(f"{path}: key '{where}.kind': {unknown_kind_message(kind)}")
    schema = kind_class(kind).schema
    try:
        return schema.model_validate({"kind": kind, **entry})
    except ValidationError as error:
        raise InputError(f"{path}: {_validation_message(error, schema, where)}") from error


def _check_pool(pool: Pool, path: Path) -> None:
    """Check names, settings and costs of the candidates. Messages count rows from 1."""
    rows: dict[str, int] = {}
    for row, candidate in enumerate(pool.candidates, 1):
        where = f"{path}: candidates, row {row}"
        if candidate.candidate in rows:
            raise InputError(
                f"{where}: the candidate {candidate.candidate!r} is already in row"
                f" {rows[candidate.candidate]}. Rename or remove one."
            )
        check_name(candidate.candidate, f"{where}: the candidate", slashes=True)
        rows[candidate.candidate] = row
        _check_name(candidate.generator, list(pool.generators), "generator", where)
        _check_settings(pool, candidate, where)
        if pool.costs == "explicit" and candidate.cost is None:
            raise InputError(
                f"{where}: the candidate {candidate.candidate!r} has no cost. Add one, or write"
                " 'costs: counted'."
            )
    if pool.reference_condition is not None:
        _check_name(
            pool.reference_condition, list(rows), "candidate", f"{path}: reference_condition"
        )
    for generator, name in pool.metric_reference.items():
        _check_name(generator, list(pool.generators), "generator", f"{path}: metric_reference")
        _check_name(name, list(rows), "candidate", f"{path}: metric_reference.{generator}")


def _check_settings(pool: Pool, candidate: Candidate, where: str) -> None:
    """Check a candidate's settings, and that they differ from those of all candidates before it."""
    spec = pool.generators[candidate.generator]
    for key in candidate.settings:
        if key not in spec.overridable:
            keys = [*Candidate.model_fields, *spec.overridable]
            raise InputError(f"{where}: {_unknown_key(key, key, keys)}")
    try:
        resolved = spec.with_settings_of(candidate)
    except ValidationError as error:
        raise InputError(f"{where}: {_validation_message(error, type(spec))}") from error
    kind_of(spec, pool.folder).check(candidate)
    for other in pool.candidates[: pool.candidates.index(candidate)]:
        same_steps = (other.generator, other.steps) == (candidate.generator, candidate.steps)
        if same_steps and spec.with_settings_of(other) == resolved:
            raise InputError(
                f"{where}: the candidate {candidate.candidate!r} is the same as"
                f" {other.candidate!r}. Remove one."
            )


def _check_name(name: str, names: list[str], noun: str, where: str) -> None:
    """Check that ``names`` contains a name. ``where`` is the file and key for the message."""
    if name not in names:
        raise InputError(
            f"{where}: no {noun} is called {name!r}{nearest(name, names)}. The {noun}s are"
            f" {', '.join(names)}."
        )


def _validation_message(error: ValidationError, schema: type[BaseModel], prefix: str = "") -> str:
    """Return the first problem and its fix as one line. Rows of candidates are counted from 1."""
    first = error.errors()[0]
    location = [f"row {part + 1}" if isinstance(part, int) else part for part in first["loc"]]
    if location[:1] == ["candidates"]:
        schema = Candidate
    key = ".".join([*([prefix] if prefix else []), *location])
    key = key.replace("candidates.row", "candidates, row")
    if first["type"] == "extra_forbidden":
        return _unknown_key(key, location[-1], list(schema.model_fields))
    if first["type"] == "missing":
        return f"the key {key!r} is missing. Add it."
    return f"key {key!r}: {first_problem(error)}. Correct the value."


def _unknown_key(key: str, name: str, keys: list[str]) -> str:
    """Return the problem and its fix for an unknown key; ``name`` is the key without its prefix."""
    return f"unknown key {key!r}{nearest(name, keys)}. The keys are {', '.join(keys)}."
