"""What ``catimage score`` prints: metrics of image files, as the label stage has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from catimage.data.importers.images import read_image
from catimage.errors import InputError
from catimage.metrics import Composite, Context, declaration, get_metric, needed
from catimage.metrics.scoring import Batch, score
from catimage.params import Params


def score_rows(
    images: list[Path], prompt: str, metrics: list[str], params: Params
) -> list[dict[str, Any]]:
    """One row an image and metric: ``image, metric, value``. Images may differ in size;
    transparency is dropped.

    A metric may be one of ``label.composites``, whose terms are then scored too, but not printed.

    Raises:
        InputError: a file that is missing or no image, an empty prompt, an unknown metric, one that
            compares with a reference image, or one that fails.
    """
    if not prompt.strip():
        raise InputError("--prompt is empty: say what the images should show.")
    wanted = {name: declaration(name, params) for name in dict.fromkeys(metrics)}
    for name, declared in wanted.items():
        if declared.needs_reference:
            raise InputError(
                f"--metrics: {name!r} compares with a reference image, of which 'catimage label'"
                " alone knows; leave it out."
            )
    batches = [Batch(read_image(path)[1][None], [prompt], [str(path)]) for path in images]
    context = Context(params.encoder, params.label.device, params.label.weights)
    loaded = [get_metric(name, context=context) for name in needed(wanted, params)]
    rows = []
    for batch in batches:
        values = {metric.name: score(metric, batch) for metric in loaded}
        rows += [
            {"image": batch.names[0], "metric": name, "value": _value(made, values)}
            for name, made in wanted.items()
        ]
    return rows


def _value(declared: Any, values: dict[str, np.ndarray]) -> float:
    found = declared.combine(values) if isinstance(declared, Composite) else values[declared.name]
    return float(found[0])
