"""Commands that are run before the stages that they need name the first missing stage."""

import pytest

from catimage.commands.prerequisites import check_prerequisites
from catimage.errors import InputError
from catimage.params import ImportParams, Params
from catimage.workspace import STAGES, Workspace

OUTPUTS = {
    "sample": "data/prompts.parquet",
    "generate": "data/candidates.parquet",
    "label": "data/scores.parquet",
    "validate": "reports/validation.json",
    "train": "models/estimators",
    "calibrate": "models/router",
    "evaluate": "reports/metrics.json",
}
COMMANDS = [*STAGES[1:], "route", "register", "add-candidate"]


def create(workspace, *stages):
    """Create the outputs of some stages."""
    for stage in stages:
        (workspace.root / OUTPUTS[stage]).mkdir(parents=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_in_an_empty_folder_every_command_names_the_first_stage(tmp_path, command):
    with pytest.raises(InputError) as error:
        check_prerequisites(Workspace(tmp_path), Params(), command)
    assert str(error.value) == (
        f"{tmp_path / 'data' / 'prompts.parquet'}: not found. Run 'catimage sample' first, or"
        " 'catimage import-scores' if you have scores."
    )


@pytest.mark.parametrize("number", range(1, len(OUTPUTS)))
def test_the_first_stage_that_has_not_run_is_named(tmp_path, number):
    workspace, stages = Workspace(tmp_path), list(OUTPUTS)
    create(workspace, *stages[:number])
    command = "register" if number == 6 else "add-candidate"
    path = tmp_path / OUTPUTS[stages[number]]
    with pytest.raises(InputError) as error:
        check_prerequisites(workspace, Params(), command)
    assert str(error.value) == f"{path}: not found. Run 'catimage {stages[number]}' first."


def test_imported_data_are_imported_again_and_not_sampled(tmp_path):
    workspace = Workspace(tmp_path)
    scores, images = (Params(imported=ImportParams(kind=kind)) for kind in ("scores", "images"))
    with pytest.raises(InputError, match=r"prompts.parquet.*Run 'catimage import-images' again\."):
        check_prerequisites(workspace, images, "validate")
    create(workspace, "sample", "generate")
    with pytest.raises(InputError, match=r"scores.parquet.*Run 'catimage import-scores' again\."):
        check_prerequisites(workspace, scores, "train")
    with pytest.raises(InputError, match=r"scores.parquet.*Run 'catimage label' first\."):
        check_prerequisites(workspace, images, "train")


def test_a_router_without_its_data_can_route_and_be_packaged(tmp_path):
    workspace = Workspace(tmp_path)
    create(workspace, "calibrate")
    for command in ("route", "package", "sample"):
        check_prerequisites(workspace, Params(), command)
