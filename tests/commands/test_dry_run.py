from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from catimage.cli.app import app
from catimage.commands import dry_run as dry_run_module
from catimage.commands.dry_run import dry_run
from catimage.params import load_params, parse_params
from catimage.pool.loading import load_pool
from catimage.workspace import Workspace
from tests.miniature import workspace_of

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
NAMES = sorted(p.name for p in EXPERIMENTS.glob("*.yaml"))


def findings_of(workspace, params, tflops_per_second=100.0):
    """Return the findings as tuples (section, level, message)."""
    findings = dry_run(workspace, params, tflops_per_second)
    return [(f.section, f.level, f.message) for f in findings]


def fake_check_rows(pool, _):
    """Return rows as check_rows does, without counting costs, which takes half a minute.

    tests/pool/test_shipped.py tests the counted costs.
    """
    return [
        {
            **c.row(),
            "cost": 2.0,
            "memory_gb": 1.0,
            "weights": "not in the hub's cache",
            "problem": "",
        }
        for c in load_pool(pool).candidates
    ]


def messages(findings, level):
    """Return the messages of one level."""
    return [message for _, finding_level, message in findings if finding_level == level]


@pytest.fixture
def mini(tmp_path, miniature_pool):
    """A workspace of the miniature pool with all weights on this machine."""
    workspace, params = workspace_of(
        tmp_path / "w", miniature_pool, ["a red ring", "a blue square"]
    )
    return workspace, params


def with_changes(params, **sections):
    """Return the parameters with changed keys of some sections."""
    tree = params.model_dump(mode="json", by_alias=True, exclude_none=True)
    for key, value in sections.items():
        tree[key] = {**tree[key], **value} if isinstance(value, dict) else value
    return parse_params(tree, "params.yaml")


def test_experiments_of_the_papers_exist():
    assert {
        "catimage-coco.yaml",
        "catimage-diffusiondb.yaml",
        "budgetfusion.yaml",
        "catimage-tiny.yaml",
    } <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_dry_run_of_each_experiment_reports_only_missing_files(name, tmp_path, monkeypatch):
    """The only problems are missing files, which the user has to supply."""
    monkeypatch.setattr(dry_run_module, "check_rows", fake_check_rows)
    params = load_params(EXPERIMENTS / name)
    findings = findings_of(Workspace(tmp_path), params)
    problems = messages(findings, "problem")
    files = [s.path for s in params.sample.sources if s.kind == "file"] + [
        w.weights for w in params.label.weights.values()
    ]
    assert len(problems) == len(files)
    for file in files:
        assert any(file in problem for problem in problems), file
    assert any("candidates of" in text for text in messages(findings, "ok"))
    assert findings[-1][0] == "estimate"
    assert not list(tmp_path.iterdir())


def test_no_problems_when_everything_is_available(mini):
    workspace, params = mini
    findings = findings_of(
        workspace, with_changes(params, label={"metrics": ["clip_score", "sharpness"]})
    )
    assert messages(findings, "problem") == messages(findings, "note") == []
    assert ("sample", "ok", "2 prompts were sampled") in findings
    assert "for 2 prompts: 12 images" in findings[-1][2]


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        ({"pool": "tinny"}, "pool: 'tinny' is not found in"),
        (
            {"label": {"metrics": ["clip_scor"]}},
            "unknown metric (did you mean 'clip_score'?)",
        ),
        ({"label": {"metrics": ["clip_score", "ssim"]}}, "no metric_reference for the candidate"),
        (
            {"label": {"metrics": ["clip_score", "aesthetic_v1"]}},
            "label.weights.aesthetic_v1: the location of the weights of 'aesthetic_v1' is not set",
        ),
        (
            {"label": {"metrics": ["sharpness"]}},
            "label.metrics: 'clip_score' is missing, but estimators are trained on it",
        ),
        (
            {"train": {"estimators": [{"name": "knn", "settings": {"k": 3}}]}},
            "knn: unknown setting 'k'",
        ),
        (
            {"calibrate": {"estimator": "ridg"}},
            "calibrate.estimator: 'ridg' is not trained (did you mean 'ridge'?)",
        ),
        ({"evaluate": {"set_metrics": ["fidd"]}}, "unknown metric 'fidd'"),
        (
            {"evaluate": {"plateau": {"metrics": {"sharpness": {}}, "estimator": "knn"}}},
            "'sharpness' is not trained",
        ),
        ({"encoder": {"model": "local-dir:/nowhere"}}, "folder /nowhere not found"),
    ],
)
def test_problem_is_reported(mini, monkeypatch, sections, problem):
    workspace, params = mini
    if "pool" not in sections:
        monkeypatch.setattr(dry_run_module, "check_rows", fake_check_rows)
    findings = findings_of(workspace, with_changes(params, **sections))
    assert any(problem in text for text in messages(findings, "problem")), findings


def test_weights_that_a_run_downloads_are_notes(mini, monkeypatch):
    workspace, params = mini
    monkeypatch.setattr(dry_run_module, "check_rows", fake_check_rows)
    findings = findings_of(
        workspace,
        with_changes(
            params,
            encoder={"model": "ViT-B-32-quickgelu", "weights": "openai"},
            label={"metrics": ["clip_score"]},
        ),
    )
    notes = messages(findings, "note")
    assert messages(findings, "problem") == []
    assert (
        len([n for n in notes if "needs a network" in n]) == 2
    )  # one for the encoder and one for clip_score


def test_prompts_that_the_first_intake_will_take_are_a_note(mini, monkeypatch):
    """The flow retrain checks the parameters before its first intake."""
    workspace, params = mini
    monkeypatch.setattr(dry_run_module, "check_rows", fake_check_rows)
    workspace.prompts.unlink()
    sources = [{"kind": "scenes", "count": 12}, {"kind": "decisions"}]
    params = with_changes(
        params, sample={"sources": sources}, label={"metrics": ["clip_score", "sharpness"]}
    )
    findings = findings_of(workspace, params)
    assert messages(findings, "problem") == []
    (note,) = (text for name, level, text in findings if (name, level) == ("sample", "note"))
    assert note.startswith("source 2 (decisions): ") and "catimage intake" in note
    assert "for 12 prompts" in findings[-1][2]


def test_command_exits_with_status_1_if_there_is_a_problem(tmp_path, miniature_pool):
    tree = {
        "pool": str(miniature_pool),
        "encoder": {"model": f"local-dir:{miniature_pool.parent / 'clip'}"},
        "train": {"estimators": ["knn"]},
    }
    tree |= {
        "sample": {"sources": [{"kind": "file", "path": "prompts.txt"}]},
        "evaluate": {"set_metrics": []},
    }
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(tree))
    call = ["run", str(tmp_path / "e.yaml"), "--workspace", str(tmp_path / "w"), "--check"]
    missing = CliRunner().invoke(app, call)
    assert missing.exit_code == 1
    assert "prompts.txt: file not found" in missing.output
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "prompts.txt").write_text("a red ring\na blue square\n")
    complete = CliRunner().invoke(app, call)
    assert complete.exit_code == 0, complete.output
    assert "2 prompts, before similar ones are removed" in complete.output
    assert "no problems, 0 notes." in complete.output
    assert [p.name for p in (tmp_path / "w").iterdir()] == ["prompts.txt"]
