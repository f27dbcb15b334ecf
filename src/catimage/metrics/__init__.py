"""Quality metrics (CATImage 5.1, BudgetFusion 3.2): q maps a prompt and an image, and perhaps a
reference image, to a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any

from catimage.errors import InputError, nearest
from catimage.metrics.composite import Composite
from catimage.metrics.metric import Context, Metric, ReferenceMetric
from catimage.params import Encoder, Params

__all__ = [
    "METRICS",
    "Composite",
    "Context",
    "Metric",
    "ReferenceMetric",
    "declaration",
    "get_metric",
    "lower_is_better",
    "lower_is_better_metrics",
    "metric_class",
]

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
"""The built-in metrics. A further one is a further line here and a module."""
GROUP = "catimage.metrics"
"""The entry points under which installed packages offer metrics of their own."""


def names() -> list[str]:
    """The names of the built-in metrics, and then of those that installed packages offer."""
    return list(dict.fromkeys([*METRICS, *_offered()]))


def _offered() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def get_metric(
    name: str, encoder: Encoder | None = None, device: str = "auto", context: Context | None = None
) -> Metric:
    """Loads a metric. ``encoder`` is the CLIP of those that need one; by default the tiny pool's.

    Args:
        context: instead of ``encoder`` and ``device``, where several metrics are loaded that may
            share models.

    Raises:
        InputError: there is no such metric, or its model or device is not to be had.
    """
    made = metric_class(name)
    try:
        metric: Metric = made(context or Context(encoder, device))
    except InputError:
        raise
    except Exception as error:  # whatever a user's class raises
        if name in METRICS:
            raise
        said = f"{type(error).__name__}: {' '.join(str(error).split()).rstrip('.')}"
        raise InputError(
            f"metric {name!r} ({made.__module__}.{made.__qualname__}): cannot be made ({said})."
        ) from error
    return metric


def metric_class(name: str) -> Any:
    """The class of a metric, for what it declares.

    Raises:
        InputError: there is no such metric, or an installed package's does not load or is none.
    """
    if name in METRICS:
        module, attribute = METRICS[name].split(":")
        return getattr(import_module(module), attribute)
    offered = _offered()
    if name not in offered:
        raise InputError(
            f"metric {name!r}: there is no such metric{nearest(name, names())}; there are"
            f" {', '.join(names())}."
        )
    return _own(name, offered[name])


def _own(name: str, point: EntryPoint) -> Any:
    """The class of a user's metric, after a look at what it declares."""
    where = f"metric {name!r} (entry point {point.value})"
    try:
        found = point.load()
    except Exception as error:  # whatever a user's module raises when it is imported
        raise InputError(f"{where}: cannot be loaded ({type(error).__name__}: {error}).") from error
    if not (isinstance(found, type) and issubclass(found, Metric)):
        raise InputError(
            f"{where}: is no subclass of catimage.metrics.Metric; derive it from that, or from"
            " ReferenceMetric."
        )
    lacking = [key for key in ("name", "range") if not hasattr(found, key)]
    if lacking:
        raise InputError(f"{where}: its class declares no {lacking[0]!r}; say it there.")
    if found.name != name:
        raise InputError(
            f"{where}: its class calls itself {found.name!r}; give the entry point that name."
        )
    if not _ascending(found.range):
        raise InputError(
            f"{where}: its range is {found.range!r}; give the lowest and the highest value that it"
            " can take."
        )
    return found


def _ascending(values: Any) -> bool:
    try:
        low, high = values
        return float(low) < float(high)
    except (TypeError, ValueError):
        return False


def declaration(name: str, params: Params) -> Any:
    """What declares a metric's ``range``, ``higher_is_better`` and ``needs_reference``: its class,
    or the composite of that name.

    Raises:
        InputError: there is no such metric, or the composite is not well defined.
    """
    return _composite(name, params) if name in params.label.composites else metric_class(name)


def _composite(name: str, params: Params) -> Composite:
    where, known = f"params.yaml: label.composites.{name}", params.label.composites
    if name in names():
        raise InputError(
            f"{where}: there is a metric of that name; give the composite another one."
        )
    nested = [term for term in known[name].terms if term in known]
    if nested:
        raise InputError(f"{where}.terms.{nested[0]}: is a composite itself; write its terms out.")
    try:
        return Composite(name, known[name], metric_class)
    except InputError as error:
        raise InputError(
            str(error) if str(error).startswith("params.yaml") else f"{where}.terms: {error}"
        ) from error


def needed(metrics: Iterable[str], params: Params) -> list[str]:
    """The metrics that must be scored to have ``metrics``: those that are no composite, and the
    terms of those that are.

    Raises:
        InputError: as :func:`declaration`.
    """
    declared = ((name, declaration(name, params)) for name in metrics)
    return list(
        dict.fromkeys(
            term
            for name, made in declared
            for term in (made.terms if isinstance(made, Composite) else [name])
        )
    )


def lower_is_better(name: str, params: Params) -> bool:
    """Whether the labels of a metric are negated on the way in.

    A built-in metric declares its direction; imported scores ignore that, and are higher-is-better
    unless ``import.lower_is_better`` lists their metric.
    """
    if params.imported is not None and params.imported.kind == "scores":
        return name in params.imported.lower_is_better
    return not declaration(name, params).higher_is_better


def lower_is_better_metrics(metrics: Iterable[str], params: Params) -> frozenset[str]:
    """Return those of ``metrics`` whose low values are good: ``Dataset.lower_is_better``."""
    return frozenset(name for name in metrics if lower_is_better(name, params))
