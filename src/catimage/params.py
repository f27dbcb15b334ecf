"""Typed parameters: ``params.yaml``, its defaults, and ``--set key=value``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from catimage.errors import InputError, nearest
from catimage.workspace import replacing


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Encoder(_Section):
    """The text encoder of the router. ``model`` is an open_clip name, ``local-dir:FOLDER``, or ``tiny`` (the embedded CLIP)."""

    model: str = "tiny"
    weights: str = ""
    revision: str = ""

    @property
    def name(self) -> str:
        """The folder name of its embeddings."""
        return re.sub(r"[^A-Za-z0-9_.-]+", "-", "-".join(x for x in (self.model, self.weights, self.revision) if x)).strip("-")


class SceneSource(_Section):
    """Captions of the tiny pool's scene grammar."""

    kind: Literal["scenes"] = "scenes"
    count: int = Field(1400, ge=1)
    seed: int = 0


class FileSource(_Section):
    """Prompts of a file: csv, tsv, jsonl or parquet with a ``column``, or txt with a prompt a line."""

    kind: Literal["file"] = "file"
    path: str
    column: str = "prompt"
    limit: int | None = Field(None, ge=1)


class Sample(_Section):
    """Stage sample."""

    sources: tuple[SceneSource | FileSource, ...] = Field((SceneSource(),), min_length=1)
    max_similarity: float = Field(0.75, gt=0, le=1)
    max_prompt_length: int = Field(2000, ge=1)


class Generate(_Section):
    """Stage generate. ``shard_images`` fixes how many images a shard plans; ``batch`` how many are made at once."""

    seeds: list[int] = Field(default_factory=lambda: [0, 1], min_length=1)
    batch: int = Field(64, ge=1)
    shard_images: int = Field(512, ge=1)
    device: str = "auto"


class Weights(_Section):
    """Where a metric's weights come from: a folder, or a hub id with a ``revision``."""

    weights: str = Field(min_length=1)
    revision: str | None = None


class Term(_Section):
    """A metric's part in a composite; ``scale`` are the values that count as 0 and 1, by default its range."""

    weight: float = Field(1.0, gt=0, allow_inf_nan=False)
    scale: tuple[float, float] | None = None

    @field_validator("scale")
    @classmethod
    def _ascending(cls, scale: tuple[float, float] | None) -> tuple[float, float] | None:
        if scale is not None and not scale[0] < scale[1]:
            raise ValueError("must be two numbers, the lower one first")
        return scale


class CompositeParams(_Section):
    """A metric made of others: a weighted mean (``sum``) or geometric mean (``product``) of scaled ones."""

    kind: Literal["sum", "product"] = "sum"
    terms: dict[str, Term] = Field(min_length=1)


class Label(_Section):
    """Stage label. ``on_error`` says what happens to an image that a metric cannot score: ``stop``, or ``skip`` it and go on."""

    metrics: list[str] = Field(default_factory=lambda: ["clip_score", "sharpness"], min_length=1)
    composites: dict[str, CompositeParams] = Field(default_factory=dict)
    weights: dict[str, Weights] = Field(default_factory=dict)
    on_error: Literal["stop", "skip"] = "stop"
    batch: int = Field(256, ge=1)
    device: str = "auto"


class Validate(_Section):
    """Stage validate."""

    complete_labels: bool = True


class Train(_Section):
    """Stage train. ``metrics`` empty means the routed metric alone."""

    estimators: list[str] = Field(default_factory=lambda: ["knn", "transformer", "ridge"], min_length=1)
    metrics: list[str] = Field(default_factory=list)
    seed: int = 0


class Calibrate(_Section):
    """Stage calibrate. ``auto`` takes the estimator with the best mean curve quality on the validation split."""

    estimator: str = "auto"


class Evaluate(_Section):
    """Stage evaluate. ``reference_images`` is a folder of real images, which sets of made ones are compared with."""

    bootstrap: int = Field(2000, ge=100)
    seed: int = 0
    set_metrics: list[str] = Field(default_factory=list)
    reference_images: str = ""


class Package(_Section):
    """Stage package."""

    name: str = "catimage"


class Import(_Section):
    """What ``import-scores`` or ``import-images`` was told.

    Imported scores are in directions of their own, which ``lower_is_better`` tells. Imported images are scored by our metrics, which
    declare theirs; ``metric_reference`` gives, by candidate, the one whose image of the same prompt and seed is its reference.
    """

    kind: Literal["scores", "images"] = "scores"
    lower_is_better: list[str] = Field(default_factory=list)
    metric_reference: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        key, kind = ("metric_reference", "images") if self.kind == "scores" else ("lower_is_better", "scores")
        if getattr(self, key):
            raise ValueError(f"{key} is for imported {kind}, and these are {self.kind}; leave it out")
        return self

    def check_references(self, candidates: list[str]) -> None:
        """``metric_reference`` names none but ``candidates``.

        Raises:
            InputError: naming the first that is none.
        """
        for name in (*self.metric_reference, *self.metric_reference.values()):
            if name not in candidates:
                known = f"{nearest(name, candidates)}; there are {', '.join(candidates)}"
                raise InputError(f"params.yaml: import.metric_reference: {name!r} is no candidate{known}.")


class Params(_Section):
    """All of ``params.yaml``. Sections are named after the stages."""

    pool: str = "tiny"
    metric: str = "clip_score"
    cost_unit: str = "tflops"
    budget: str = "40%"
    encoder: Encoder = Encoder()
    sample: Sample = Sample()
    generate: Generate = Generate()
    label: Label = Label()
    validation: Validate = Field(Validate(), alias="validate")
    train: Train = Train()
    calibrate: Calibrate = Calibrate()
    evaluate: Evaluate = Evaluate()
    package: Package = Package()
    imported: Import | None = Field(None, alias="import")

    @field_validator("budget", mode="before")
    @classmethod
    def _budget(cls, value: Any) -> str:
        text = str(value).strip()
        number = text.removesuffix("%")
        try:
            ok = 0 < float(number) < float("inf")
        except ValueError:
            ok = False
        if not ok:
            raise ValueError("must be a positive number in the cost unit, or a percentage such as '40%'")
        return text

    def budget_in(self, dearest: float) -> float:
        """The budget in the cost unit; a percentage is of the ``dearest`` candidate's cost."""
        return float(self.budget[:-1]) / 100 * dearest if self.budget.endswith("%") else float(self.budget)

    def check_not_imported(self, stage: str) -> None:
        """Stops a stage that would replace what was imported.

        Raises:
            InputError: the workspace was imported.
        """
        if self.imported is not None:
            what = f"this workspace was made by 'import-{self.imported.kind}'"
            raise InputError(f"params.yaml: {what}, and stage {stage} would replace its data: leave the stage out, or remove 'import'.")

    @property
    def trained_metrics(self) -> list[str]:
        """The routed metric first, then the others of ``train.metrics``."""
        return [self.metric, *(m for m in self.train.metrics if m != self.metric)]


def load_params(path: Path, settings: list[str] | None = None) -> Params:
    """Reads ``params.yaml`` (defaults fill what it leaves out), applies ``key=value`` settings and writes those to the file.

    Raises:
        InputError: not YAML, an unknown key (with the nearest known one), or a value of the wrong type.
    """
    tree = read_tree(path)
    for setting in settings or []:
        apply_setting(tree, setting)
    params = parse_params(tree, path)
    if settings:
        save_params(tree, path)
    return params


def parse_params(tree: dict[str, Any], where: Path | str) -> Params:
    """Validates a tree of parameters; ``where`` is named in the error."""
    try:
        return Params.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"{where}: {_sentence(error)}") from error


def save_params(tree: dict[str, Any], path: Path) -> None:
    """Writes a tree of parameters as YAML, whole or not at all."""
    with replacing(path) as fresh:
        fresh.write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))


def read_tree(path: Path) -> dict[str, Any]:
    """The keys and values that ``params.yaml`` itself says, without defaults and unchecked; empty where there is no file.

    Raises:
        InputError: not YAML, or not a mapping.
    """
    if not path.exists():
        return {}
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(tree, dict):
        raise InputError(f"{path}: must be a mapping of keys to values, as in the README's example.")
    return tree


def apply_setting(tree: dict[str, Any], setting: str) -> None:
    """Puts one ``key=value`` (dotted keys reach into sections) into ``tree``.

    Raises:
        InputError: no ``=``, a value that is not YAML, or a dotted key that goes through a value.
    """
    key, sign, text = setting.partition("=")
    if not sign or not key.strip():
        raise InputError(f"--set {setting!r}: write key=value, such as --set budget=40%.")
    *sections, last = key.strip().split(".")
    node = tree
    for section in sections:
        node = node.setdefault(section, {})
        if not isinstance(node, dict):
            raise InputError(f"--set {setting!r}: {section!r} holds a value, not a section.")
    try:
        node[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"--set {setting!r}: the value is not readable as YAML.") from error


def _sentence(error: ValidationError) -> str:
    """The first thing that is wrong, in words."""
    first = error.errors()[0]
    place = [str(p) for p in first["loc"] if p not in ("SceneSource", "FileSource")]
    key = ".".join(place)
    if first["type"] == "extra_forbidden":
        known = _known_keys(place[:-1])
        return f"unknown key {key!r}{nearest(place[-1], known)}; the keys there are {', '.join(known)}."
    message = first["msg"].removeprefix("Value error, ")
    return f"key {key!r}: {message[0].lower() + message[1:]} (found {first.get('input')!r})."


def _known_keys(place: list[str]) -> list[str]:
    model: Any = Params
    for part in place:
        field = next((f for n, f in model.model_fields.items() if part in (n, f.alias)), None) if hasattr(model, "model_fields") else None
        model = field.annotation if field else None
    fields = getattr(model, "model_fields", {})
    return [f.alias or n for n, f in fields.items()]
