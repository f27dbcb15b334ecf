"""``catimage score``: metrics of image files, computed in the same way as by the label stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from catimage.common.arrays import Floats
from catimage.data.importers.images import read_image
from catimage.errors import InputError
from catimage.metrics.composite import Composite
from catimage.metrics.metric import MetricContext
from catimage.metrics.registry import declaration, get_metric, required_metrics
from catimage.metrics.scoring import ImageBatch, score
from catimage.params import Params


def score_rows(
    images: list[Path], prompt: str, metrics: list[str], params: Params
) -> list[dict[str, Any]]:
    """Return one row ``image, metric, value`` per image and metric.

    Args:
        images: the image files, which may differ in size; transparent pixels become white.
        prompt: the prompt of all images.
        metrics: the names of metrics or of composites in ``label.composites``.
        params: the parameters of the workspace.

    Raises:
        InputError: a file is missing or not an image, the prompt is empty, or a metric is unknown,
            needs a reference image, or fails.
    """
    if not prompt.strip():
        raise InputError("--prompt: the prompt is empty. Describe the content of the images.")
    declarations = {name: declaration(name, params.label) for name in dict.fromkeys(metrics)}
    for name, declared in declarations.items():
        if declared.needs_reference:
            raise InputError(
                f"--metrics: {name!r} needs a reference image, which only 'catimage label' has."
                " Remove this metric."
            )
    batches = [ImageBatch(read_image(path)[1][None], [prompt], [str(path)]) for path in images]
    context = MetricContext(params.encoder, params.label.device, params.label.weights)
    required = required_metrics(declarations, params.label)
    loaded_metrics = [get_metric(name, context=context) for name in required]
    rows = []
    for image_batch in batches:
        values = {metric.name: score(metric, image_batch) for metric in loaded_metrics}
        rows += [
            {"image": image_batch.names[0], "metric": name, "value": _value(declared, values)}
            for name, declared in declarations.items()
        ]
    return rows


def _value(declared: Any, values: dict[str, Floats]) -> float:
    """Return the value of one metric or composite for one image.

    Args:
        declared: the class of the metric, or the composite.
        values: the values of all loaded metrics by name, each (1,).
    """
    if isinstance(declared, Composite):
        return float(declared.combine(values)[0])
    return float(values[declared.name][0])
