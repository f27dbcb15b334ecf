"""Experimental kinds of estimators. Their quality is not significantly higher than that of the best
single candidate on any real data set in ``docs/estimators.md``.

Experimental kinds can be listed in ``train.estimators``, are not in the default list, and may
change or be removed in any release.
"""

from __future__ import annotations

from collections.abc import Mapping

from catimage.estimators import clusters, finetuned
from catimage.estimators.context import Builder

EXPERIMENTAL: Mapping[str, Builder] = {
    "clusters": clusters.build,
    "finetuned": finetuned.build,
}
"""The functions that build experimental estimators, by kind of estimator."""
