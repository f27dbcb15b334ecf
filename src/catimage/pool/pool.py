"""A pool (the set H of CATImage 3.1): generators, candidates and where costs come from, read from
one YAML file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, PrivateAttr, ValidationError

from catimage.errors import InputError, nearest
from catimage.pool.registry import KINDS, AnyGenerator, kind_of
from catimage.pool.spec import Candidate, Section

PACKAGED = Path(__file__).parents[1] / "pools"
"""The pools that the package ships; a workspace's own go first."""


class Pool(Section):
    """A pool as its file has it.

    ``costs`` is ``counted`` (TFLOPs from the models' configuration, beside what candidates say) or
    ``explicit``. ``reference_condition`` is the fixed candidate that a report compares with;
    ``metric_reference`` gives, per generator, the candidate whose image is the reference of a
    reference metric. ``usd_per_tflop`` gives counted candidates a price beside their TFLOPs, so
    that a pool that mixes them with hosted ones is routed over with ``cost_unit: usd``.
    """

    name: str = Field(min_length=1)
    generators: dict[str, AnyGenerator] = Field(min_length=1)
    candidates: list[Candidate] = Field(min_length=1)
    costs: Literal["counted", "explicit"] = "counted"
    usd_per_tflop: float | None = Field(None, gt=0, allow_inf_nan=False)
    reference_condition: str | None = None
    metric_reference: dict[str, str] = Field(default_factory=dict)
    _file: Path = PrivateAttr(Path())

    @property
    def file(self) -> Path:
        """The YAML file that it was read from."""
        return self._file

    @property
    def folder(self) -> Path:
        """What the weights' paths are relative to."""
        return self._file.parent

    def candidates_of(self, generator: str) -> list[Candidate]:
        """The candidates that a generator makes, in the pool's order."""
        return [c for c in self.candidates if c.generator == generator]

    def candidate(self, name: str) -> Candidate:
        """The candidate of that name; KeyError where there is none."""
        return {c.candidate: c for c in self.candidates}[name]


def load_pool(name_or_file: str, workspace_pools: Path | None = None) -> Pool:
    """Reads a pool by the path of its YAML file, or by name from ``workspace_pools``, then from the
    package.

    The weights are not looked at here.

    Raises:
        InputError: no such pool (known names are listed), not YAML, an unknown key, a duplicate
            candidate, a negative or missing cost, two candidates that are the same, a setting that
            the generator does not have, or a name of a generator or candidate that the file does
            not define.
    """
    path = _find(name_or_file, workspace_pools)
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: not readable as YAML: {' '.join(str(error).split())}."
        ) from error
    if not isinstance(tree, dict):
        raise InputError(f"{path}: must be a mapping with the keys {', '.join(Pool.model_fields)}.")
    try:
        pool = Pool.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"{path}: {_sentence(error, tree)}") from error
    pool._file = path
    for name, spec in pool.generators.items():
        spec._where = f"{path}: generators.{name}"
    _check(pool, path)
    return pool


def _find(name_or_file: str, workspace_pools: Path | None) -> Path:
    if name_or_file.endswith((".yaml", ".yml")) or "/" in name_or_file:
        path = Path(name_or_file)
        if not path.is_file():
            raise InputError(f"pool {name_or_file!r}: there is no such file.")
        return path
    folders = [f for f in (workspace_pools, PACKAGED) if f]
    for folder in folders:
        path = folder / f"{name_or_file}.yaml"
        if path.is_file():
            return path
    known = sorted({p.stem for f in folders for p in f.glob("*.yaml")})
    places = " and ".join(str(f) for f in folders)
    raise InputError(
        f"pool {name_or_file!r} is not in {places}{nearest(name_or_file, known)}; the pools there"
        f" are {', '.join(known)}."
    )


def _check(pool: Pool, path: Path) -> None:
    """What ties the parts of a pool together; rows are counted from 1."""
    seen: dict[str, int] = {}
    for row, candidate in enumerate(pool.candidates, 1):
        where = f"{path}: candidates, row {row}"
        if candidate.candidate in seen:
            first = seen[candidate.candidate]
            raise InputError(
                f"{where}: the candidate {candidate.candidate!r} is already in row {first}; rename"
                " or drop one."
            )
        seen[candidate.candidate] = row
        _known(candidate.generator, list(pool.generators), "generator", where)
        _check_settings(pool, candidate, where)
        if pool.costs == "explicit" and candidate.cost is None:
            raise InputError(
                f"{where}: the candidate {candidate.candidate!r} has no cost; add one, or say"
                " 'costs: counted'."
            )
    if pool.reference_condition is not None:
        _known(pool.reference_condition, list(seen), "candidate", f"{path}: reference_condition")
    for generator, candidate_name in pool.metric_reference.items():
        _known(generator, list(pool.generators), "generator", f"{path}: metric_reference")
        _known(candidate_name, list(seen), "candidate", f"{path}: metric_reference.{generator}")


def _check_settings(pool: Pool, candidate: Candidate, where: str) -> None:
    """What the candidate sets itself is a setting of its generator, and makes it another one than
    those before.
    """
    spec = pool.generators[candidate.generator]
    for key in candidate.settings:
        if key not in spec.overridable:
            known = [*Candidate.model_fields, *spec.overridable]
            raise InputError(
                f"{where}: unknown key {key!r}{nearest(key, known)}; the keys there are"
                f" {', '.join(known)}."
            )
    try:
        settled = spec.settled(candidate)
    except ValidationError as error:
        raise InputError(f"{where}: {_sentence(error)}") from error
    spec.check(candidate)
    for other in pool.candidates[: pool.candidates.index(candidate)]:
        if (other.generator, other.steps) == (
            candidate.generator,
            candidate.steps,
        ) and spec.settled(other) == settled:
            raise InputError(
                f"{where}: the candidate {candidate.candidate!r} is the same as"
                f" {other.candidate!r}; drop one."
            )


def _known(name: str, known: list[str], what: str, where: str) -> None:
    if name not in known:
        raise InputError(
            f"{where}: no {what} is called {name!r}{nearest(name, known)}; there are"
            f" {', '.join(known)}."
        )


def _sentence(error: ValidationError, tree: Any = None) -> str:
    """The first thing that is wrong, in words; rows of the list of candidates are counted from 1."""
    first = error.errors()[0]
    loc = list(first["loc"])
    fields: list[str] = (
        list(Candidate.model_fields) if loc[0] == "candidates" else list(Pool.model_fields)
    )
    if loc[0] == "generators" and len(loc) > 2:
        del loc[2]  # pydantic's name of the kind
        fields = list(KINDS[kind_of(tree["generators"][loc[1]])].model_fields)
    key = ".".join(f"row {p + 1}" if isinstance(p, int) else p for p in loc).replace(
        "candidates.row", "candidates, row"
    )
    if first["type"] == "extra_forbidden":
        return (
            f"unknown key {key!r}{nearest(str(loc[-1]), fields)}; the keys there are"
            f" {', '.join(fields)}."
        )
    if first["type"] == "missing":
        return f"the key {key!r} is missing."
    if first["type"] == "union_tag_invalid":
        kind = kind_of(first["input"])
        return (
            f"key '{key}.kind': there is no kind {kind!r}{nearest(kind, list(KINDS))}; the kinds"
            f" are {', '.join(KINDS)}."
        )
    return (
        f"key {key!r}: {first['msg'][0].lower() + first['msg'][1:]} (found"
        f" {_short(first['input'])})."
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
