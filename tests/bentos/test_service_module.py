"""``bentos/catimage_service.py`` is the service module of the default parameters."""

from __future__ import annotations

import tomllib
from pathlib import Path

from catimage.params import Params
from catimage.pool.groups import plan_groups
from catimage.pool.loading import load_pool
from catimage.pool.service_module import render_service_module

FILE = Path(__file__).parents[2] / "bentos" / "catimage_service.py"


def test_the_module_in_the_repository_is_that_of_the_default_parameters() -> None:
    params = Params()
    pool = load_pool(params.pool)
    candidates = [c.candidate for c in pool.candidates]
    groups = plan_groups(pool, candidates, params.package.groups, params.generate.device)
    assert FILE.read_text() == render_service_module(groups, params.serving.drain_seconds), (
        "Run: python -m tests.bentos.test_service_module"
    )


def test_bentoml_build_in_a_checkout_takes_the_wheel_of_this_version() -> None:
    """``bentoml build`` expands no patterns in the names of wheels."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    [wheel] = project["tool"]["bentoml"]["build"]["python"]["wheels"]
    name = f"catimage-{project['project']['version']}-py3-none-any.whl"
    assert wheel == f"dist/bento/env/python/wheels/{name}"


if __name__ == "__main__":
    params = Params()
    pool = load_pool(params.pool)
    groups = plan_groups(pool, [c.candidate for c in pool.candidates], {}, params.generate.device)
    FILE.write_text(render_service_module(groups, params.serving.drain_seconds))
