"""The shipped pools' entries of the kinds beside diffusers."""

import pytest

from catimage.pool.costs import lacking
from catimage.pool.pool import load_pool


def test_the_hosted_pool_is_routed_over_in_usd():
    pool = load_pool("hosted")
    assert lacking(pool, "usd") == []
    hosted = [c for c in pool.candidates if not pool.generators[c.generator].counted]
    assert len(hosted) >= 4 and lacking(pool, "tflops") == [c.candidate for c in hosted]
    assert {pool.generators[c.generator].kind for c in pool.candidates} == {"hosted", "diffusers"}


@pytest.mark.parametrize(
    ("name", "kind", "candidates"),
    [
        ("sdxl", "infinity", ["infinity-2b"]),
        ("sd2", "distrifusion", ["sd2-distrifusion-22", "sd2-distrifusion-65"]),
    ],
)
def test_members_of_other_kinds_are_pinned(name: str, kind: str, candidates: list[str]):
    pool = load_pool(name)
    assert [
        c.candidate for c in pool.candidates if pool.generators[c.generator].kind == kind
    ] == candidates
    spec = next(spec for spec in pool.generators.values() if spec.kind == kind)
    assert all("@" in value for value in spec.identity(pool.folder).values())
