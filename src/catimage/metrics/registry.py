"""Metrics by name: built-in metrics, metrics of installed packages, and composites.

A quality metric maps a prompt and an image, and for some metrics a reference image, to a number
(CATImage paper, section 5.1; BudgetFusion paper, section 3.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any

from catimage.errors import InputError, nearest
from catimage.metrics.composite import Composite
from catimage.metrics.metric import Metric, MetricContext
from catimage.params import EncoderParams, ImportParams, LabelParams

METRICS: Mapping[str, str] = MappingProxyType(
    {
        "aesthetic_v1": "catimage.metrics.aesthetic:AestheticV1",
        "aesthetic_v2": "catimage.metrics.aesthetic:AestheticV2",
        "clip_patch_similarity": "catimage.metrics.clip_patch_similarity:ClipPatchSimilarity",
        "clip_score": "catimage.metrics.clip_score:ClipScore",
        "clip_similarity": "catimage.metrics.clip_similarity:ClipSimilarity",
        "dreamsim": "catimage.metrics.dreamsim:DreamSim",
        "hps_v2": "catimage.metrics.hps:HpsV2",
        "i_clip": "catimage.metrics.i_clip:IClip",
        "image_reward": "catimage.metrics.image_reward:ImageReward",
        "l_snr": "catimage.metrics.l_snr:LSnr",
        "lpips": "catimage.metrics.lpips:Lpips",
        "pick_score": "catimage.metrics.pick_score:PickScore",
        "scene_faithfulness": "catimage.metrics.scene_faithfulness:SceneFaithfulness",
        "sharpness": "catimage.metrics.sharpness:Sharpness",
        "ssim": "catimage.metrics.ssim:Ssim",
    }
)
"""The built-in metrics as ``module:class``. To add a metric, add a module and a line here."""
ENTRY_POINT_GROUP = "catimage.metrics"
"""The entry-point group in which installed packages register metrics."""


def metric_names() -> list[str]:
    """Return the names of the built-in metrics, then those of the metrics of installed packages."""
    return list(dict.fromkeys([*METRICS, *_entry_points()]))


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def get_metric(
    name: str,
    encoder: EncoderParams | None = None,
    device: str = "auto",
    context: MetricContext | None = None,
) -> Metric:
    """Load a metric.

    Args:
        name: the name of a built-in metric or of a metric of an installed package.
        encoder: the CLIP of the metrics that use a CLIP; by default the embedded CLIP.
        device: a device of torch, or ``auto``.
        context: a context to use instead of ``encoder`` and ``device``. Metrics that are loaded
            with the same context share models.

    Raises:
        InputError: the metric is unknown, or its weights or the device are unavailable.
    """
    cls = metric_class(name)
    try:
        metric: Metric = cls(context or MetricContext(encoder, device))
    except InputError:
        raise
    except Exception as error:  # any exception that a user's class can raise
        if name in METRICS:
            raise
        reason = f"{type(error).__name__}: {' '.join(str(error).split()).rstrip('.')}"
        raise InputError(
            f"metric {name!r} ({cls.__module__}.{cls.__qualname__}): its constructor failed"
            f" ({reason}). Correct the class."
        ) from error
    return metric


def metric_class(name: str) -> Any:
    """Return the class of a metric without loading its model.

    Raises:
        InputError: the metric is unknown, or the class of an installed package cannot be imported
            or lacks a declaration.
    """
    if name in METRICS:
        module, attribute = METRICS[name].split(":")
        return getattr(import_module(module), attribute)
    installed = _entry_points()
    if name not in installed:
        raise InputError(
            f"metric {name!r}: unknown metric{nearest(name, metric_names())}. Use one of"
            f" {', '.join(metric_names())}."
        )
    return _installed_class(name, installed[name])


def _installed_class(name: str, point: EntryPoint) -> Any:
    """Import the class of an installed package's metric and check its attributes."""
    where = f"metric {name!r} (entry point {point.value})"
    try:
        cls = point.load()
    except Exception as error:  # any exception that a user's module can raise at import
        reason = f"{type(error).__name__}: {error}".rstrip(".")
        raise InputError(
            f"{where}: cannot be imported ({reason}). Correct the entry point or the module."
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, Metric)):
        raise InputError(
            f"{where}: not a subclass of catimage.metrics.metric.Metric. Derive it from that class"
            " or from ReferenceMetric."
        )
    missing = [key for key in ("name", "range") if not hasattr(cls, key)]
    if missing:
        raise InputError(
            f"{where}: the class has no attribute {missing[0]!r}. Add it as a class attribute."
        )
    if cls.name != name:
        raise InputError(
            f"{where}: the class has the name {cls.name!r}. Give the entry point the same name."
        )
    if not _is_ascending(cls.range):
        raise InputError(
            f"{where}: invalid range {cls.range!r}. Set it to the lowest and the highest possible"
            " score."
        )
    return cls


def _is_ascending(values: Any) -> bool:
    try:
        low, high = values
        return float(low) < float(high)
    except (TypeError, ValueError):
        return False


def declaration(name: str, label: LabelParams) -> Any:
    """Return the object that declares a metric's range, direction and need of a reference image.

    Args:
        name: the name of a metric or of a composite.
        label: the section ``label`` of params.yaml, which defines the composites.

    Returns:
        The class of the metric, or the :class:`Composite`.

    Raises:
        InputError: the metric is unknown, or the composite is invalid.
    """
    return _composite(name, label) if name in label.composites else metric_class(name)


def _composite(name: str, label: LabelParams) -> Composite:
    where, composites = f"params.yaml: label.composites.{name}", label.composites
    if name in metric_names():
        raise InputError(f"{where}: a metric has this name. Give the composite another name.")
    nested = [term for term in composites[name].terms if term in composites]
    if nested:
        raise InputError(
            f"{where}.terms.{nested[0]}: a composite cannot be a term. List the terms of"
            f" {nested[0]!r} instead."
        )
    try:
        return Composite(name, composites[name], metric_class)
    except InputError as error:
        if str(error).startswith("params.yaml"):
            raise
        raise InputError(f"{where}.terms: {error}") from error


def required_metrics(metrics: Iterable[str], label: LabelParams) -> list[str]:
    """Return the names of ``metrics`` with composites replaced by the names of their terms.

    Raises:
        InputError: see :func:`declaration`.
    """
    required: dict[str, None] = {}
    for name in metrics:
        declared = declaration(name, label)
        terms = declared.terms if isinstance(declared, Composite) else [name]
        required |= dict.fromkeys(terms)
    return list(required)


def lower_is_better(name: str, label: LabelParams, imported: ImportParams | None = None) -> bool:
    """Return whether low scores of a metric are good, so that its labels are negated.

    Metrics and composites declare their direction. For imported scores, the setting
    ``import.lower_is_better`` is used, even if a built-in metric has the same name.

    Raises:
        InputError: see :func:`declaration`.
    """
    if imported is not None and imported.kind == "scores":
        return name in imported.lower_is_better
    return not declaration(name, label).higher_is_better


def lower_is_better_metrics(
    metrics: Iterable[str], label: LabelParams, imported: ImportParams | None = None
) -> frozenset[str]:
    """Return the names in ``metrics`` whose low scores are good; see :func:`lower_is_better`."""
    return frozenset(name for name in metrics if lower_is_better(name, label, imported))
