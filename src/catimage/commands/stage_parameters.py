"""The parameters that the results of each stage depend on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from catimage.params import Params

PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "sample": ("encoder", "import", "sample"),
    "generate": ("cost_unit", "generate", "import", "pool"),
    "label": ("encoder", "import", "label", "pool", "validate.complete_labels"),
    "validate": (
        "cost_unit",
        "encoder",
        "generate.seeds",
        "import",
        "label",
        "metric",
        "pool",
        "sample.gate_share",
        "sample.max_similarity",
        "train.metrics",
        "validate",
    ),
    "train": (
        "cost_unit",
        "encoder",
        "import",
        "label.composites",
        "metric",
        "pool",
        "train",
        "validate.complete_labels",
    ),
    "calibrate": (
        "budget",
        "calibrate",
        "cost_unit",
        "import",
        "label.composites",
        "metric",
        "pool",
        "validate.complete_labels",
    ),
    "evaluate": (
        "cost_unit",
        "encoder",
        "evaluate",
        "import",
        "label.composites",
        "label.device",
        "label.weights",
        "metric",
        "pool",
        "validate.complete_labels",
    ),
    "package": (
        "budget",
        "cost_unit",
        "encoder",
        "generate.device",
        "metric",
        "package",
        "pool",
        "serving",
    ),
}
"""The keys of ``params.yaml`` that each stage reads."""


def parameters(stage: str, params: Params) -> dict[str, Any]:
    """Return the values of the parameters that a stage reads, including defaults."""
    tree = _tree(params)
    values: dict[str, Any] = {}
    for key in PARAMETERS[stage]:
        *sections, last = key.split(".")
        source, target = tree, values
        for name in sections:
            source, target = source[name], target.setdefault(name, {})
        target[last] = source[last]
    return values


def _tree(value: Any) -> Any:
    """Convert parameters to built-in types; the keys are those of ``params.yaml``.

    Values that equal their default are included, which some serializers of the parameters omit.
    """
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {field.alias or name: _tree(getattr(value, name)) for name, field in fields.items()}
    if isinstance(value, dict):
        return {str(key): _tree(item) for key, item in value.items()}
    return [_tree(item) for item in value] if isinstance(value, list | tuple) else value
