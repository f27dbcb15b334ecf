"""Shipped pools: generators of the kinds ``hosted``, ``infinity`` and ``distrifusion``."""

import pytest

from catimage.pool.costs import candidates_without_cost, is_counted
from catimage.pool.loading import load_pool
from catimage.pool.registry import kind_of


def test_all_candidates_of_the_hosted_pool_have_a_cost_in_usd():
    pool = load_pool("hosted")
    assert candidates_without_cost(pool, "usd") == []
    hosted = [c for c in pool.candidates if not is_counted(pool, c)]
    assert len(hosted) >= 4 and candidates_without_cost(pool, "tflops") == [
        c.candidate for c in hosted
    ]
    assert {pool.generators[c.generator].kind for c in pool.candidates} == {"hosted", "diffusers"}


@pytest.mark.parametrize(
    ("name", "kind", "candidates"),
    [
        ("sdxl", "infinity", ["infinity-2b"]),
        ("sd2", "distrifusion", ["sd2-distrifusion-22", "sd2-distrifusion-65"]),
    ],
)
def test_weights_of_other_kinds_are_pinned_to_revisions(
    name: str, kind: str, candidates: list[str]
):
    pool = load_pool(name)
    assert [
        c.candidate for c in pool.candidates if pool.generators[c.generator].kind == kind
    ] == candidates
    spec = next(spec for spec in pool.generators.values() if spec.kind == kind)
    assert all("@" in value for value in kind_of(spec, pool.folder).identity().values())
