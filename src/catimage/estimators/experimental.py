"""Experimental estimators: their gain over the best fixed candidate is not significant on any of
the real data sets of ``docs/estimators.md``.

They stay available by name, are in no default, and may change or be removed in any release.
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
