from types import SimpleNamespace

import pytest
import yaml
from typer.testing import CliRunner

from catimage.cli.app import app
from catimage.commands import experiment, sources
from catimage.errors import InputError
from catimage.params import load_params
from catimage.workspace import STAGES, Workspace

TREE = {
    "pool": "tiny",
    "budget": "30%",
    "sample": {"sources": [{"kind": "file", "path": "prompts.txt"}]},
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("# a comment\n" + yaml.safe_dump(TREE))
    return path


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "w")


@pytest.fixture
def stages(monkeypatch, workspace):
    """Replace the stages by functions that record their names; sample writes its outputs."""
    ran = []

    def fake_import_module(name):
        stage = name.rpartition(".")[2]

        def run(workspace, params):
            ran.append(stage)
            if stage == "sample":
                workspace.embeddings(params.encoder.name).mkdir(parents=True, exist_ok=True)
                workspace.prompts.write_text("prompts")

        return SimpleNamespace(run=run)

    monkeypatch.setattr(experiment, "import_module", fake_import_module)
    return ran


def test_file_is_copied_unchanged(file, workspace):
    params = experiment.prepare(file, workspace, [])
    assert workspace.params.read_text() == file.read_text()
    assert params == load_params(file)


def test_settings_change_the_copy_only(file, workspace):
    before = file.read_text()
    assert experiment.prepare(file, workspace, ["budget=50%"]).budget == "50%"
    assert load_params(workspace.params).budget == "50%"
    assert file.read_text() == before


def test_experiment_can_be_prepared_again_with_the_same_settings(file, workspace):
    experiment.prepare(file, workspace, ["budget=50%"])
    assert experiment.prepare(file, workspace, ["budget=50%"]).budget == "50%"


def test_workspace_with_other_parameters_is_refused(file, workspace):
    experiment.prepare(file, workspace, ["budget=50%"])
    with pytest.raises(
        InputError, match=r"differs from .*mine.yaml in budget\. Name another workspace"
    ):
        experiment.prepare(file, workspace, [])
    assert load_params(workspace.params).budget == "50%"


def test_invalid_file_creates_no_workspace(file, workspace):
    file.write_text("bugdet: 30%\n")
    with pytest.raises(InputError, match="unknown key 'bugdet'"):
        experiment.prepare(file, workspace, [])
    assert not workspace.root.exists()


def test_missing_parameters_file_is_refused(file, workspace):
    with pytest.raises(
        InputError,
        match=(
            r"min.yaml: file not found \(did you mean 'mine.yaml'\?\)\. Use one of the files in its"
            r" folder: mine.yaml"
        ),
    ):
        experiment.prepare(file.with_name("min.yaml"), workspace, [])


def test_stages_run_in_order_until_the_given_stage(file, workspace, stages, capsys):
    params = experiment.prepare(file, workspace, [])
    experiment.run_stages(workspace, params, "label")
    assert stages == ["sample", "generate", "label"]
    assert "run: generate (2 of 3)" in capsys.readouterr().out


def test_sample_runs_once(file, workspace, stages, capsys):
    params = experiment.prepare(file, workspace, [])
    experiment.run_stages(workspace, params)
    experiment.run_stages(workspace, params)
    assert stages == [*STAGES[:-1], *STAGES[1:-1]]
    assert (
        "run: sample (1 of 7): skipped, already done with these inputs" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "change", ["parameters", "prompt file", "text encoder", "code", "missing output"]
)
def test_sample_runs_again_after_a_change(file, workspace, stages, change, monkeypatch):
    encoder = workspace.root / "clip"
    params = experiment.prepare(file, workspace, [f"encoder.model=local-dir:{encoder}"])
    encoder.mkdir()
    experiment.run_stages(workspace, params, "sample")
    if change == "parameters":
        params = params.model_copy(
            update={"sample": params.sample.model_copy(update={"max_similarity": 0.5})}
        )
    elif change == "prompt file":
        (workspace.root / "prompts.txt").write_text("a prompt")
    elif change == "text encoder":
        (encoder / "weights.safetensors").write_text("new")
    elif change == "code":
        monkeypatch.setattr(sources, "code_digest", lambda *_: "new")
    else:
        workspace.prompts.unlink()
    experiment.run_stages(workspace, params, "sample")
    assert stages == ["sample", "sample"]


def test_imported_scores_skip_the_first_three_stages(workspace, stages):
    workspace.root.mkdir()
    workspace.params.write_text("import: {kind: scores}\n")
    experiment.run_stages(workspace, load_params(workspace.params))
    assert stages == ["validate", "train", "calibrate", "evaluate"]


def test_unknown_stage_is_refused(file, workspace):
    with pytest.raises(
        InputError, match=r"--until 'lable': unknown stage \(did you mean 'label'\?\)"
    ):
        experiment.run_stages(workspace, experiment.prepare(file, workspace, []), "lable")


def test_unknown_stage_creates_no_workspace(file, workspace):
    result = CliRunner().invoke(
        app, ["run", str(file), "--workspace", str(workspace.root), "--until", "lable"]
    )
    assert "--until 'lable'" in str(result.exception)
    assert not workspace.root.exists()
