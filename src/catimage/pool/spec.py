"""Schema of a pool file: the pool, its candidates, and the base class of its generators.

The classes only validate values: they do not read files or import model libraries.
:mod:`catimage.pool.kind` has the operations of a generator, such as counting its costs.
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
    """One option of the router (m in the CATImage paper): a generator, a number of steps, settings.

    Attributes:
        candidate: unique name.
        generator: name of the generator of the images.
        steps: number of denoising steps (for a next-scale generator, number of scales).
        cost: cost of one image in ``unit``; None if the cost is counted or measured.
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
    """Base class of the entries of generators in a pool file, with one subclass per kind.

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
        """The file and key of this generator, at the start of its error messages."""
        return self._location

    def error(self, key: str, message: str) -> InputError:
        """Return an error whose message begins with the file and the key of a setting.

        Args:
            key: key of the setting in the entry of this generator.
            message: the problem and its fix, ending with a full stop.
        """
        return InputError(f"{self._location}.{key}: {message}")

    def set_location(self, location: str) -> None:
        """Set :attr:`location`."""
        self._location = location

    def with_settings_of(self, candidate: Candidate) -> Self:
        """Return this generator with the settings that a candidate overrides.

        Raises:
            ValidationError: a setting has an invalid value.
        """
        if not candidate.settings:
            return self
        values = {**self.model_dump(), **candidate.settings}
        changed = type(self).model_validate(values)
        changed.set_location(self._location)
        return changed

    def definition(self, candidate: Candidate, identity: dict[str, Any]) -> dict[str, Any]:
        """Return the settings and weights that determine a candidate's images.

        Shard plans contain the definition and, separately, the number of steps. The definition has
        no paths of weights, so that the shards of a moved workspace remain valid.

        Args:
            candidate: a candidate of this generator.
            identity: digests or revisions of the weights, from ``GeneratorKind.identity``.
        """
        settings = self.with_settings_of(candidate).model_dump(
            mode="json", exclude=set(self.excluded_from_definition), exclude_defaults=True
        )
        return {"kind": self.kind, **settings, **identity}


class Pool(PoolSection):
    """A pool: the set H of candidates (CATImage paper, section 3.1) and their generators.

    Attributes:
        name: name of the pool.
        generators: generators by name.
        candidates: candidates in the order of the file.
        costs: ``counted`` counts TFLOPs from the configuration of the models, in addition to the
            costs in the pool file; with ``explicit``, every candidate requires the key ``cost``.
        usd_per_tflop: price of one TFLOP. It converts counted TFLOPs to a cost in USD, so that
            local candidates can be compared with hosted ones (``cost_unit: usd``).
        reference_condition: the fixed candidate that reports compare the router with (65 steps in
            the BudgetFusion paper).
        metric_reference: by generator, the candidate whose images are the references of
            full-reference metrics (129 steps in the BudgetFusion paper).
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

    def set_file(self, file: Path) -> None:
        """Set :attr:`file`, for relative paths, and the location of each generator."""
        self._file = file
        for name, spec in self.generators.items():
            spec.set_location(f"{file}: generators.{name}")

    def candidates_of(self, generator: str) -> list[Candidate]:
        """Return the candidates of a generator, in the order of the pool."""
        return [c for c in self.candidates if c.generator == generator]

    def candidate(self, name: str) -> Candidate:
        """Return the candidate with this name.

        Raises:
            KeyError: the pool has no such candidate.
        """
        return {c.candidate: c for c in self.candidates}[name]
