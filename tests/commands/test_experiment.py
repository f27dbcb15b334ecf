from types import SimpleNamespace

import pytest
import yaml
from typer.testing import CliRunner

from catimage.cli.app import app
from catimage.commands import experiment
from catimage.errors import InputError
from catimage.params import load_params
from catimage.workspace import Workspace

TREE = {
    "pool": "tiny",
    "budget": "30%",
    "sample": {"sources": [{"kind": "file", "path": "prompts.txt"}]},
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("# a comment that stays\n" + yaml.safe_dump(TREE))
    return path


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "w")


@pytest.fixture
def stages(monkeypatch, workspace):
    """Stages that only write down that they ran, and what sample makes."""
    ran = []

    def load(name):
        stage = name.rpartition(".")[2]

        def run(place, params):
            ran.append(stage)
            if stage == "sample":
                place.embeddings(params.encoder.name).mkdir(parents=True, exist_ok=True)
                place.prompts.write_text("prompts")

        return SimpleNamespace(run=run)

    monkeypatch.setattr(experiment, "import_module", load)
    return ran


def test_the_file_is_copied_as_it_is(file, workspace):
    params = experiment.prepare(file, workspace, [])
    assert workspace.params.read_text() == file.read_text()
    assert params == load_params(file)


def test_settings_go_into_the_copy_and_not_into_the_file(file, workspace):
    before = file.read_text()
    assert experiment.prepare(file, workspace, ["budget=50%"]).budget == "50%"
    assert load_params(workspace.params).budget == "50%"
    assert file.read_text() == before


def test_the_same_call_again_goes_on(file, workspace):
    experiment.prepare(file, workspace, ["budget=50%"])
    assert experiment.prepare(file, workspace, ["budget=50%"]).budget == "50%"


def test_other_parameters_are_not_overwritten(file, workspace):
    experiment.prepare(file, workspace, ["budget=50%"])
    with pytest.raises(
        InputError, match=r"is another one than .*mine.yaml \(in budget\): name another workspace"
    ):
        experiment.prepare(file, workspace, [])
    assert load_params(workspace.params).budget == "50%"


def test_a_bad_file_makes_no_workspace(file, workspace):
    file.write_text("bugdet: 30%\n")
    with pytest.raises(InputError, match="unknown key 'bugdet'"):
        experiment.prepare(file, workspace, [])
    assert not workspace.root.exists()


def test_a_file_that_is_not_there(file, workspace):
    with pytest.raises(
        InputError,
        match=(
            r"min.yaml: there is no such file \(did you mean 'mine.yaml'\?\); there are mine.yaml"
        ),
    ):
        experiment.prepare(file.with_name("min.yaml"), workspace, [])


def test_stages_run_in_order_up_to_the_last_that_is_wanted(file, workspace, stages, capsys):
    params = experiment.prepare(file, workspace, [])
    experiment.run(workspace, params, "label")
    assert stages == ["sample", "generate", "label"]
    assert "run: generate (2 of 3)" in capsys.readouterr().out


def test_prompts_are_sampled_once(file, workspace, stages, capsys):
    params = experiment.prepare(file, workspace, [])
    experiment.run(workspace, params)
    experiment.run(workspace, params)
    assert stages == [*experiment.STAGES[:-1], *experiment.STAGES[1:-1]]
    assert (
        "run: sample (1 of 7): left out, it has been done with these parameters"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize("change", ["parameters", "source", "lost"])
def test_prompts_are_sampled_again_where_anything_has_changed(file, workspace, stages, change):
    params = experiment.prepare(file, workspace, [])
    experiment.run(workspace, params, "sample")
    if change == "parameters":
        params = params.model_copy(
            update={"sample": params.sample.model_copy(update={"max_similarity": 0.5})}
        )
    elif change == "source":
        (workspace.root / "prompts.txt").write_text("a prompt")
    else:
        workspace.prompts.unlink()
    experiment.run(workspace, params, "sample")
    assert stages == ["sample", "sample"]


def test_what_was_imported_is_not_made(workspace, stages):
    workspace.root.mkdir()
    workspace.params.write_text("import: {kind: scores}\n")
    experiment.run(workspace, load_params(workspace.params))
    assert stages == ["validate", "train", "calibrate", "evaluate"]


def test_an_unknown_stage(file, workspace):
    with pytest.raises(
        InputError, match=r"--until 'lable': there is no such stage \(did you mean 'label'\?\)"
    ):
        experiment.run(workspace, experiment.prepare(file, workspace, []), "lable")


def test_an_unknown_stage_makes_no_workspace(file, workspace):
    result = CliRunner().invoke(
        app, ["run", str(file), "--workspace", str(workspace.root), "--until", "lable"]
    )
    assert "--until 'lable'" in str(result.exception)
    assert not workspace.root.exists()
