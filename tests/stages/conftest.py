"""Workspaces with images of the miniature pool, for the prompts ``PROMPTS`` of a test module."""

import shutil
from pathlib import Path

import pytest

from catimage.params import Params
from catimage.stages import generate
from catimage.workspace import Workspace
from tests.miniature import workspace_of


@pytest.fixture(scope="module")
def generated(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, miniature_pool: Path
) -> tuple[Workspace, Params]:
    """Return a workspace after stage generate, which the tests of a module share."""
    root = tmp_path_factory.mktemp("generated")
    workspace, params = workspace_of(
        root, miniature_pool, request.module.PROMPTS, label={"batch_size": 3}
    )
    generate.run(workspace, params)
    return workspace, params


@pytest.fixture
def generated_copy(generated: tuple[Workspace, Params], tmp_path: Path) -> tuple[Workspace, Params]:
    """Return a copy of the generated workspace that a test may change."""
    return Workspace(shutil.copytree(generated[0].root, tmp_path / "copy")), generated[1]
