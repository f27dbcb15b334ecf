"""The scores table of a label run, a metric and candidate at a time, so that its memory does not
grow with the images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from catimage.data.shards.manifest import Entry
from catimage.data.shards.store import read_keys
from catimage.metrics import Composite, Metric, declaration
from catimage.params import Params

Values = Mapping[Entry, Mapping[str, np.ndarray]]
"""By shard and metric: float64 (n_images,) in the shard's order, NaN where there is no score."""


def score_frames(
    folder: Path, values: Values, metrics: list[Metric], wanted: list[str], params: Params
) -> Iterator[pd.DataFrame]:
    """The rows of the wanted metrics and composites, sorted by metric, candidate, prompt and seed;
    images without a score have none.

    Args:
        folder: of the shards that ``values`` are of.
        metrics: those that were scored; composites are made of them here.
    """
    versions = {metric.name: metric.version for metric in metrics}
    for name in sorted(wanted):
        made = declaration(name, params)
        version = made.version(versions) if isinstance(made, Composite) else versions[name]
        for candidate in sorted({entry.candidate for entry in values}):
            of_it = {
                entry: scored for entry, scored in values.items() if entry.candidate == candidate
            }
            keys = pd.concat([read_keys(folder, entry.shard) for entry in of_it])
            frame = keys.assign(
                metric=name,
                version=version,
                value=np.concatenate([_values(made, scored) for scored in of_it.values()]),
            )
            yield frame.dropna(subset="value").sort_values(["prompt_id", "seed"])


def _values(made: object, scored: Mapping[str, np.ndarray]) -> np.ndarray:
    return made.combine(scored) if isinstance(made, Composite) else scored[made.name]  # type: ignore[attr-defined]
