from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from catimage.cli.app import app
from catimage.commands import dry_run as rehearsal
from catimage.commands.dry_run import rehearse
from catimage.params import load_params, parse_params
from catimage.pool.loading import load_pool
from catimage.workspace import Workspace
from tests.miniature import workspace_of

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
NAMES = sorted(p.name for p in EXPERIMENTS.glob("*.yaml"))


def rehearsed(workspace, params, rate=100.0):
    return [(f.part, f.level, f.text) for f in rehearse(workspace, params, rate)]


def uncounted(pool, _):
    """What check_rows says of a pool, but for what it counts, which takes half a minute
    (tests/pool/test_shipped.py does).
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


def said(findings, level):
    return [text for _, of, text in findings if of == level]


@pytest.fixture
def mini(tmp_path, miniature_pool):
    """A workspace of the miniature pool, all of whose parts are at hand."""
    workspace, params = workspace_of(
        tmp_path / "w", miniature_pool, ["a red ring", "a blue square"]
    )
    return workspace, params


def changed(params, **sections):
    tree = params.model_dump(mode="json", by_alias=True, exclude_none=True)
    for key, value in sections.items():
        tree[key] = {**tree[key], **value} if isinstance(value, dict) else value
    return parse_params(tree, "params.yaml")


def test_the_experiments_of_the_papers_are_there():
    assert {
        "catimage-coco.yaml",
        "catimage-diffusiondb.yaml",
        "budgetfusion.yaml",
        "catimage-tiny.yaml",
    } <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_experiment_dry_runs(name, tmp_path, monkeypatch):
    """Nothing is wrong with it but the files that are the user's, and they are named."""
    monkeypatch.setattr(rehearsal, "check_rows", uncounted)
    params = load_params(EXPERIMENTS / name)
    findings = rehearsed(Workspace(tmp_path), params)
    problems = said(findings, "problem")
    files = [s.path for s in params.sample.sources if s.kind == "file"] + [
        w.weights for w in params.label.weights.values()
    ]
    assert len(problems) == len(files)
    for file in files:
        assert any(file in problem for problem in problems), file
    assert any("candidates of" in text for text in said(findings, "ok"))
    assert findings[-1][0] == "estimate"
    assert not list(tmp_path.iterdir())


def test_where_all_is_at_hand_there_is_no_problem_and_the_estimate_is_of_the_prompts(mini):
    workspace, params = mini
    findings = rehearsed(workspace, changed(params, label={"metrics": ["clip_score", "sharpness"]}))
    assert said(findings, "problem") == said(findings, "note") == []
    assert ("sample", "ok", "2 prompts were sampled") in findings
    assert "for 2 prompts: 12 images" in findings[-1][2]


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        ({"pool": "tinny"}, "pool 'tinny' is not in"),
        (
            {"label": {"metrics": ["clip_scor"]}},
            "there is no such metric (did you mean 'clip_score'?)",
        ),
        ({"label": {"metrics": ["clip_score", "ssim"]}}, "names no metric_reference"),
        (
            {"label": {"metrics": ["clip_score", "aesthetic_v1"]}},
            "label.weights.aesthetic_v1: say where the weights",
        ),
        (
            {"label": {"metrics": ["sharpness"]}},
            "the metric 'clip_score' is trained but not labelled",
        ),
        ({"train": {"estimators": ["knnn"]}}, "no estimator 'knnn' (did you mean 'knn'?)"),
        (
            {"train": {"estimators": [{"name": "knn", "settings": {"k": 3}}]}},
            "knn has no setting 'k'",
        ),
        (
            {"calibrate": {"estimator": "ridg"}},
            "calibrate.estimator: 'ridg' is not trained (did you mean 'ridge'?)",
        ),
        ({"evaluate": {"set_metrics": ["fidd"]}}, "there is no 'fidd'"),
        (
            {"evaluate": {"plateau": {"metrics": {"sharpness": {}}, "estimator": "knn"}}},
            "'sharpness' is not trained",
        ),
        ({"encoder": {"model": "local-dir:/nowhere"}}, "there is no folder /nowhere"),
    ],
)
def test_what_would_stop_a_run_is_named(mini, monkeypatch, sections, problem):
    workspace, params = mini
    if "pool" not in sections:
        monkeypatch.setattr(rehearsal, "check_rows", uncounted)
    findings = rehearsed(workspace, changed(params, **sections))
    assert any(problem in text for text in said(findings, "problem")), findings


def test_weights_that_a_run_would_fetch_are_no_problem(mini, monkeypatch):
    workspace, params = mini
    monkeypatch.setattr(rehearsal, "check_rows", uncounted)
    findings = rehearsed(
        workspace,
        changed(
            params,
            encoder={"model": "ViT-B-32", "weights": "openai"},
            label={"metrics": ["clip_score"]},
        ),
    )
    notes = said(findings, "note")
    assert said(findings, "problem") == []
    assert (
        len([n for n in notes if "needs a network" in n]) == 2
    )  # of the encoder, and of clip_score


def test_the_command_exits_with_one_where_there_is_a_problem(tmp_path, miniature_pool):
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
    there = CliRunner().invoke(app, call)
    assert there.exit_code == 0, there.output
    assert "2 prompts, before near ones are dropped" in there.output
    assert "no problems, 0 notes." in there.output
    assert [p.name for p in (tmp_path / "w").iterdir()] == ["prompts.txt"]
