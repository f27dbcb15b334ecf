"""Counted costs of earlier runs, so that ``catimage generate`` counts only those of new candidates.

A count is reused while the definition of the candidate (its settings and the digests of its files),
its steps, the code of the package :mod:`catimage.pool` and the versions of the libraries are
unchanged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    TypeAdapter,
)

from catimage.common.code import installed_version
from catimage.common.hashing import folder_digest
from catimage.data.shards.plan import PlannedCandidate
from catimage.pool.image_code import LIBRARIES
from catimage.pool.kind import Convention, CostTerms
from catimage.pool.registry import BUILT_IN_KINDS
from catimage.pool.spec import Candidate
from catimage.workspace import replacing

Count = Callable[[list[Candidate], Convention], list[CostTerms]]
"""The type of :meth:`catimage.pool.kind.GeneratorKind.count_costs`."""


class CountedCosts:
    """Counted costs in a JSON file; a missing or damaged file is empty.

    The costs of kinds of other packages are always counted, because their code is not known here.

    Args:
        path: the JSON file.
        planned: the candidates of the pool, with the definitions of their images.
    """

    def __init__(self, path: Path, planned: Sequence[PlannedCandidate]) -> None:
        self._path = path
        self._keys = {
            c.candidate: _digest([c.definition, c.steps])
            for c in planned
            if c.definition["kind"] in BUILT_IN_KINDS
        }
        self._stored = _read(path)
        self._used: dict[str, dict[str, Any]] = {}

    def terms(
        self, candidates: list[Candidate], convention: Convention, count: Count
    ) -> list[CostTerms]:
        """Return the costs of candidates of one generator; those that are not known are counted.

        Raises:
            InputError: from ``count``.
        """
        keys = [f"{convention} {self._keys.get(c.candidate, '')}" for c in candidates]
        new = [c for c, k in zip(candidates, keys, strict=True) if k not in self._stored]
        counted = iter(count(new, convention) if new else ())
        found = []
        for candidate, key in zip(candidates, keys, strict=True):
            known = self._stored.get(key)
            terms = next(counted) if known is None else CostTerms(**known)
            found.append(terms)
            if candidate.candidate in self._keys:
                self._used[key] = asdict(terms)
        return found

    def save(self) -> None:
        """Write the counts that were used; those of other candidates are removed."""
        if self._used != self._stored:
            document = {"version": _version(), "digest": _digest(self._used), "counts": self._used}
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._path) as new:
                new.write_text(json.dumps(document))


class _Terms(BaseModel):
    """The valid values of :class:`~catimage.pool.kind.CostTerms`."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    denoiser: NonNegativeFloat
    text_encoder: NonNegativeFloat
    decoder: NonNegativeFloat
    denoiser_calls: NonNegativeInt
    passes: PositiveInt


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Return the counts in a file; empty if it is missing, damaged or of another version."""
    try:
        document = json.loads(path.read_bytes())
        counts: dict[str, dict[str, Any]] = document["counts"]
        TypeAdapter(dict[str, _Terms]).validate_python(counts)
        valid = (document["version"], document["digest"]) == (_version(), _digest(counts))
        return counts if valid else {}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return {}


@cache
def _version() -> str:
    code = folder_digest(Path(__file__).parent, (".py",))
    return _digest([code, {name: installed_version(name) for name in LIBRARIES}])


def _digest(value: Sequence[Any] | Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
