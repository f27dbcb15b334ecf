"""Experimental estimators, whose gain over the best fixed candidate is not significant on any real
data set of ``docs/estimators.md``.

They can be selected by name in ``train.estimators``, are not part of the default list, and may
change or be removed in any release.
"""

from __future__ import annotations

from collections.abc import Mapping

from catimage.estimators import boosting, clusters, finetuned
from catimage.estimators.context import Builder

EXPERIMENTAL: Mapping[str, Builder] = {
    "boosting": boosting.build,
    "clusters": clusters.build,
    "finetuned": finetuned.build,
}
"""The functions that build experimental estimators, by kind."""
