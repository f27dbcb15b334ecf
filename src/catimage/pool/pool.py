"""A pool (the set H of CATImage 3.1): generators, candidates and where costs come from, read from one YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from catimage.errors import InputError, nearest

PACKAGED = Path(__file__).parents[1] / "pools"
"""The pools that the package ships; a workspace's own go first."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GeneratorSpec(_Section):
    """One generator: a diffusers pipeline and how it samples. Candidates share it.

    ``weights`` is a folder in diffusers' format, relative to the pool's file, or a hub id, which needs a ``revision``.
    ``guidance`` of at most 1 means no classifier-free guidance. ``size`` is the images' width and height in pixels.
    Without a ``scheduler``, the weights' own is used.
    """

    kind: Literal["diffusers"] = "diffusers"
    pipeline: str = "StableDiffusionPipeline"
    weights: str = Field(min_length=1)
    revision: str | None = None
    scheduler: str | None = None
    guidance: float = Field(7.5, ge=0)
    guidance_rescale: float = Field(0.0, ge=0, le=1)
    size: int = Field(ge=8, multiple_of=8)
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    _where: str = PrivateAttr("pool")

    @property
    def guided(self) -> bool:
        """Whether every denoising step takes two passes."""
        return self.guidance > 1

    def error(self, key: str, message: str) -> InputError:
        """An error that names the file and the key of this generator; ``message`` ends the sentence."""
        return InputError(f"{self._where}.{key}: {message}")


class Candidate(_Section):
    """One choice m: a generator and a number of steps. An explicit ``cost`` is in ``unit``, for one image."""

    candidate: str = Field(min_length=1)
    generator: str
    steps: int = Field(ge=1)
    cost: float | None = Field(None, ge=0, allow_inf_nan=False)
    unit: Literal["tflops", "seconds", "usd", "wh"] = "tflops"


class Pool(_Section):
    """A pool as its file has it.

    ``costs`` is ``counted`` (TFLOPs from the models' configuration, beside what candidates say) or ``explicit``.
    ``reference_condition`` is the fixed candidate that a report compares with; ``metric_reference`` gives, per generator,
    the candidate whose image is the reference of a reference metric.
    """

    name: str = Field(min_length=1)
    generators: dict[str, GeneratorSpec] = Field(min_length=1)
    candidates: list[Candidate] = Field(min_length=1)
    costs: Literal["counted", "explicit"] = "counted"
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


def load_pool(name_or_file: str, workspace_pools: Path | None = None) -> Pool:
    """Reads a pool by the path of its YAML file, or by name from ``workspace_pools``, then from the package.

    The weights are not looked at here: see :func:`catimage.pool.weights.weights_of`.

    Raises:
        InputError: no such pool (known names are listed), not YAML, an unknown key, a duplicate candidate, a negative
            or missing cost, or a name of a generator or candidate that the file does not define.
    """
    path = _find(name_or_file, workspace_pools)
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(tree, dict):
        raise InputError(f"{path}: must be a mapping with the keys {', '.join(Pool.model_fields)}.")
    try:
        pool = Pool.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"{path}: {_sentence(error)}") from error
    _check(pool, path)
    pool._file = path
    for name, spec in pool.generators.items():
        spec._where = f"{path}: generators.{name}"
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
    raise InputError(f"pool {name_or_file!r} is not in {places}{nearest(name_or_file, known)}; the pools there are {', '.join(known)}.")


def _check(pool: Pool, path: Path) -> None:
    """What ties the parts of a pool together; rows are counted from 1."""
    seen: dict[str, int] = {}
    for row, candidate in enumerate(pool.candidates, 1):
        where = f"{path}: candidates, row {row}"
        if candidate.candidate in seen:
            first = seen[candidate.candidate]
            raise InputError(f"{where}: the candidate {candidate.candidate!r} is already in row {first}; rename or drop one.")
        seen[candidate.candidate] = row
        _known(candidate.generator, list(pool.generators), "generator", where)
        if pool.costs == "explicit" and candidate.cost is None:
            raise InputError(f"{where}: the candidate {candidate.candidate!r} has no cost; add one, or say 'costs: counted'.")
    if pool.reference_condition is not None:
        _known(pool.reference_condition, list(seen), "candidate", f"{path}: reference_condition")
    for generator, candidate_name in pool.metric_reference.items():
        _known(generator, list(pool.generators), "generator", f"{path}: metric_reference")
        _known(candidate_name, list(seen), "candidate", f"{path}: metric_reference.{generator}")


def _known(name: str, known: list[str], what: str, where: str) -> None:
    if name not in known:
        raise InputError(f"{where}: no {what} is called {name!r}{nearest(name, known)}; there are {', '.join(known)}.")


def _sentence(error: ValidationError) -> str:
    """The first thing that is wrong, in words; rows of the list of candidates are counted from 1."""
    first = error.errors()[0]
    place = [f"row {p + 1}" if isinstance(p, int) else p for p in first["loc"]]
    key = ".".join(place).replace("candidates.row", "candidates, row")
    if first["type"] == "extra_forbidden":
        inner = {"generators": list(GeneratorSpec.model_fields), "candidates": list(Candidate.model_fields)}
        known = inner[place[0]] if len(place) > 1 and place[0] in inner else list(Pool.model_fields)
        return f"unknown key {key!r}{nearest(place[-1], known)}; the keys there are {', '.join(known)}."
    if first["type"] == "missing":
        return f"the key {key!r} is missing."
    return f"key {key!r}: {first['msg'][0].lower() + first['msg'][1:]} (found {_short(first['input'])})."


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
