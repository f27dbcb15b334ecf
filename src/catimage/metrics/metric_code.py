"""The code and the library versions that the scores of a metric depend on.

Cached scores are computed again if they change. Comments, docstrings and formatting are ignored.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache

from catimage.common.code import (
    code_digest,
    import_closure,
    library_versions,
    module_file,
    package_versions,
)
from catimage.metrics.metric import Metric

LIBRARIES = (
    "dreamsim",
    "open_clip",
    "peft",
    "scipy",
    "timm",
    "torch",
    "torchmetrics",
    "torchvision",
    "transformers",
)
"""The libraries that compute scores. Their versions are included for the metrics that import
them.
"""
_ALL_METRICS = ("catimage.common.pixels", "catimage.metrics.scoring")
"""The modules that decode the images and combine the scores of every metric."""
_OWN_PACKAGES = ("catimage.metrics", "catimage.encoders", "catimage.scenes")


def metric_code(metric: Metric) -> str:
    """Return a digest of the code of a metric and of the versions of the libraries it imports.

    The code of a metric of another package is that of the modules of the package that it imports.
    The code that decodes images and combines scores belongs to every metric.

    Returns:
        12 hexadecimal digits.
    """
    return _metric_code(type(metric).__module__)


@lru_cache(maxsize=64)
def _metric_code(module: str) -> str:
    package = module.partition(".")[0]
    files = import_closure(module, within=_OWN_PACKAGES if package == "catimage" else (package,))
    versions = library_versions(package_versions(files), LIBRARIES)
    shared = [path for name in _ALL_METRICS if (path := module_file(name))]
    text = json.dumps([code_digest([*files, *shared]), versions], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
