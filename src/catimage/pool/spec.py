"""Schema of a pool file: the pool, its candidates, and the base class of its generators.

The classes validate values. They read no files, import no model library and count nothing; see
:mod:`catimage.pool.kind` for what can be done with a generator.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, InstanceOf, PrivateAttr, SerializeAsAny

from catimage.errors import InputError

CostUnit = Literal["tflops", "seconds", "usd", "wh"]


class PoolSection(BaseModel):
    """A mapping in a pool file. It is immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Candidate(BaseModel):
    """One choice m of the router: a generator, a number of steps, and settings.

    Attributes:
        candidate: unique name.
        generator: name of the generator that makes its images.
        steps: number of denoising steps (of scales, for a next-scale generator).
        cost: cost of one image in ``unit``; None if it is counted or measured.
        unit: unit of ``cost``.

    Further keys override settings of the generator; :attr:`GeneratorSpec.overridable` lists the
    keys that are allowed.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    candidate: str = Field(min_length=1)
    generator: str
    steps: int = Field(1, ge=1)
    cost: float | None = Field(None, ge=0, allow_inf_nan=False)
    unit: CostUnit = "tflops"

    @property
    def settings(self) -> dict[str, Any]:
        """The generator's settings that this candidate overrides."""
        return dict(self.model_extra or {})

    def row(self) -> dict[str, Any]:
        """Return the candidate's row of the candidates table."""
        return {
            "candidate": self.candidate,
            "generator": self.generator,
            "steps": self.steps,
            "cost": self.cost,
            "unit": self.unit,
        }


class GeneratorSpec(PoolSection):
    """Base class of the generators in a pool file, one subclass per kind.

    Attributes:
        kind: name of the kind in :mod:`catimage.pool.registry`.
        size: width and height of the images in pixels.
        licence: licence of the weights, for information.
        overridable: names of the settings that a candidate may override.
        excluded_from_definition: names of the settings that do not change the images, or whose
            values :meth:`GeneratorKind.identity <catimage.pool.kind.GeneratorKind.identity>`
            represents by content or revision.
    """

    overridable: ClassVar[tuple[str, ...]] = ()
    excluded_from_definition: ClassVar[tuple[str, ...]] = ("licence",)

    kind: str
    size: int = Field(ge=8, multiple_of=8)
    licence: str = ""
    _location: str = PrivateAttr("pool")

    @property
    def location(self) -> str:
        """The file and key of this generator, with which error messages begin."""
        return self._location

    def error(self, key: str, message: str) -> InputError:
        """Return an error that names the file and the key of this generator.

        Args:
            key: key of the setting, below this generator.
            message: the problem and its fix, ending with a full stop.
        """
        return InputError(f"{self._location}.{key}: {message}")

    def at(self, location: str) -> Self:
        """Set :attr:`location`, and return this object."""
        self._location = location
        return self

    def with_settings_of(self, candidate: Candidate) -> Self:
        """Return this generator with the settings that a candidate overrides.

        Raises:
            ValidationError: a setting has an invalid value.
        """
        if not candidate.settings:
            return self
        values = {**self.model_dump(), **candidate.settings}
        return type(self).model_validate(values).at(self._location)

    def definition(self, candidate: Candidate, identity: dict[str, Any]) -> dict[str, Any]:
        """Return the kind, settings and weights that determine a candidate's images, except steps.

        Shard plans contain the definition. Paths of weights are not part of it, so that a copied
        workspace keeps its shards.

        Args:
            candidate: a candidate of this generator.
            identity: digests or revisions of the weights, from ``GeneratorKind.identity``.
        """
        settings = self.with_settings_of(candidate).model_dump(
            mode="json", exclude=set(self.excluded_from_definition), exclude_defaults=True
        )
        return {"kind": self.kind, **settings, **identity}


class Pool(PoolSection):
    """A pool: the set H of candidates (CATImage, section 3.1) and their generators.

    Attributes:
        name: name of the pool.
        generators: generators by name.
        candidates: candidates in the order of the file.
        costs: ``counted`` counts TFLOPs from the configuration of the models, in addition to the
            costs that candidates give; with ``explicit``, every candidate gives its cost.
        usd_per_tflop: price of computation. It gives candidates with counted TFLOPs a cost in USD,
            so that they can be compared with hosted candidates (``cost_unit: usd``).
        reference_condition: the fixed candidate that reports compare with (BudgetFusion: 65 steps).
        metric_reference: per generator, the candidate whose images are the references of a
            reference metric (BudgetFusion: 129 steps).
    """

    name: str = Field(min_length=1)
    generators: dict[str, SerializeAsAny[InstanceOf[GeneratorSpec]]] = Field(min_length=1)
    candidates: list[Candidate] = Field(min_length=1)
    costs: Literal["counted", "explicit"] = "counted"
    usd_per_tflop: float | None = Field(None, gt=0, allow_inf_nan=False)
    reference_condition: str | None = None
    metric_reference: dict[str, str] = Field(default_factory=dict)
    _file: Path = PrivateAttr(Path())

    @property
    def file(self) -> Path:
        """The YAML file that the pool was read from."""
        return self._file

    @property
    def folder(self) -> Path:
        """The folder that relative paths of weights start from."""
        return self._file.parent

    def read_from(self, file: Path) -> Self:
        """Record the file that the pool was read from, for relative paths and error messages."""
        self._file = file
        for name, spec in self.generators.items():
            spec.at(f"{file}: generators.{name}")
        return self

    def candidates_of(self, generator: str) -> list[Candidate]:
        """Return the candidates of a generator, in the order of the pool."""
        return [c for c in self.candidates if c.generator == generator]

    def candidate(self, name: str) -> Candidate:
        """Return the candidate of that name.

        Raises:
            KeyError: the pool has no such candidate.
        """
        return {c.candidate: c for c in self.candidates}[name]
