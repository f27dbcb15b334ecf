"""``catimage intake``: prompts and scored decisions from the decision log to the stage sample."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from catimage.cli.app import app
from catimage.commands import intake
from catimage.commands.intake import IntakeSummary
from catimage.data.audits import AUDITS, add_audits
from catimage.data.decisions import delete_old_decisions
from catimage.data.prompts.diversity import nearest_earlier
from catimage.data.prompts.identity import prompt_id, split_of
from catimage.data.schema import PROMPTS, SCORES, read_table
from catimage.data.shards.store import read_keys
from catimage.data.traffic import OUTCOMES, TRAFFIC_PROMPTS, forget_users, read_traffic
from catimage.encoders.embeddings import Embeddings
from catimage.errors import InputError
from catimage.params import load_params
from catimage.stages import generate, label, sample
from catimage.workspace import Workspace
from tests.decision_rows import NOON, decision_row, save_decisions

NOW = NOON + timedelta(hours=1)
SCENES = {"kind": "scenes", "count": 120}
TEXTS = (
    "an oil painting of a lighthouse in a storm",
    "three astronauts ride horses through Berlin at night",
    "macro photograph of a dew drop on a fern",
    "logo of a coffee company, flat vector art",
    "portrait of an old fisherman, studio light",
    "a castle made of glass above the clouds",
)


def write_params(root: Path, limit: int = 3, **settings: object) -> None:
    source = {"kind": "decisions", "days": 1, "limit": limit, "folder": "log"}
    sample_settings = {"sources": [SCENES, source], "max_similarity": 0.9}
    tree = {"encoder": "tiny", "sample": sample_settings, **settings}
    (root / "params.yaml").write_text(yaml.safe_dump(tree))


def run(workspace: Workspace, minutes: float = 60) -> IntakeSummary:
    params = load_params(workspace.params)
    return intake.run(workspace, params, NOON + timedelta(minutes=minutes))


def save_audit(workspace: Workspace, minute: int, score: float) -> None:
    values = {"time": NOON + timedelta(minutes=minute), "request_id": f"request {minute}"}
    values |= {"candidate": "mini-1", "selected": True}
    row = dict.fromkeys(AUDITS.names, "") | values | {"seed": 0, "predicted": 0.5}
    row |= {"metric": "clip_score", "score": score}
    add_audits(workspace.audits, pd.DataFrame([row]))


def run_sample(workspace: Workspace) -> pd.DataFrame:
    sample.run(workspace, load_params(workspace.params))
    return read_table(workspace.prompts, PROMPTS, "sample")


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a workspace with prompts and embeddings of the embedded CLIP."""
    workspace = Workspace(tmp_path_factory.mktemp("sampled"))
    (workspace.root / "params.yaml").write_text(
        yaml.safe_dump({"sample": {"sources": [SCENES], "max_similarity": 0.9}})
    )
    run_sample(workspace)
    return workspace.root


@pytest.fixture
def workspace(sampled: Path, tmp_path: Path) -> Workspace:
    """A copy of the sampled workspace, whose parameters name the decision log ``log``."""
    workspace = Workspace(shutil.copytree(sampled, tmp_path / "w"))
    write_params(workspace.root)
    return workspace


def test_novel_prompts_are_taken_and_become_prompts_of_the_workspace(workspace: Workspace) -> None:
    before = read_table(workspace.prompts, PROMPTS, "sample")
    known = before["prompt"][0]
    rows = [decision_row(i, text, user=f"u{i}") for i, text in enumerate(TEXTS)]
    rows += [decision_row(10, known), decision_row(11, f"{TEXTS[0]}!"), decision_row(12, TEXTS[0])]
    rows += [decision_row(-2000, "a prompt before the window")]
    save_decisions(workspace.root / "log", rows)
    summary = run(workspace)
    assert (summary.requests, summary.prompts, summary.known) == (9, 8, 1)
    assert (summary.taken, summary.total) == (3, 3)
    taken = read_traffic(workspace.traffic_prompts, TRAFFIC_PROMPTS)
    assert set(taken["prompt"]) <= {*TEXTS, f"{TEXTS[0]}!"}
    assert taken["similarity"].is_monotonic_increasing
    assert (taken["taken"] == NOW).all() and (taken["time"] < NOW).all()

    grown = run_sample(workspace)
    assert grown.iloc[: len(before)].equals(before), "earlier prompts and their order are unchanged"
    assert grown["prompt"].tolist()[len(before) :] == taken["prompt"].tolist()
    assert set(grown["source"][len(before) :]) == {"decisions"}
    vectors = Embeddings.load(workspace.embeddings("tiny")).pooled
    highest = nearest_earlier(vectors)[0][len(before) :]
    assert highest.max() < 0.9
    assert taken["similarity"].to_numpy() == pytest.approx(highest, abs=1e-5)


def test_taken_prompts_stay_when_the_log_deletes_them_and_the_next_intake_takes_the_others(
    workspace: Workspace,
) -> None:
    log = workspace.root / "log"
    save_decisions(log, [decision_row(i, text) for i, text in enumerate(TEXTS)])
    first = run(workspace)
    taken = read_traffic(workspace.traffic_prompts, TRAFFIC_PROMPTS)["prompt"].tolist()
    content = run_sample(workspace), workspace.traffic_prompts.read_bytes()
    assert first.taken == 3 and set(content[0]["prompt"]) >= set(taken)
    second = run(workspace, 61)
    assert (second.taken, second.known, second.total) == (3, 3, 6), "the limit is per intake"
    assert delete_old_decisions(log, NOW) == 1
    save_decisions(log, [decision_row(3000, TEXTS[0])])
    assert run(workspace, 3010).taken == 0
    table = read_traffic(workspace.traffic_prompts, TRAFFIC_PROMPTS)
    assert table["prompt"].tolist()[:3] == taken and set(table["prompt"]) == set(TEXTS)
    assert set(run_sample(workspace)["prompt"]) >= set(TEXTS)


def test_an_intake_without_new_prompts_changes_no_file(workspace: Workspace) -> None:
    save_decisions(workspace.root / "log", [decision_row(0, TEXTS[0])])
    assert run(workspace).taken == 1
    prompts, before = run_sample(workspace), workspace.traffic_prompts.stat().st_mtime_ns
    again = run(workspace, 120)
    assert (again.taken, again.known, again.total) == (0, 1, 1)
    assert workspace.traffic_prompts.stat().st_mtime_ns == before
    assert run_sample(workspace).equals(prompts)


def test_near_duplicates_are_not_taken(workspace: Workspace) -> None:
    variants = [TEXTS[0], TEXTS[0].upper(), f"{TEXTS[0]}.", f"  {TEXTS[0]}"]
    save_decisions(workspace.root / "log", [decision_row(i, t) for i, t in enumerate(variants)])
    summary = run(workspace)
    assert (summary.prompts, summary.taken, summary.similar) == (3, 1, 2)


def test_the_deletion_of_a_user_removes_the_text_from_the_prompts(workspace: Workspace) -> None:
    rows = [decision_row(i, text, user=f"u{i % 2}") for i, text in enumerate(TEXTS[:2])]
    save_decisions(workspace.root / "log", rows)
    run(workspace)
    assert TEXTS[0] in set(run_sample(workspace)["prompt"])
    assert forget_users(workspace, ["u0"]) == 1
    texts = set(run_sample(workspace)["prompt"])
    assert TEXTS[0] not in texts and TEXTS[1] in texts


def test_a_log_without_prompts_stops_the_intake_and_the_stage_with_one_sentence(
    workspace: Workspace,
) -> None:
    message = r"the decision log has no prompts since .* \(0 requests\)\. Set serving\.log_prompts"
    with pytest.raises(InputError, match=message):
        run(workspace)
    save_decisions(workspace.root / "log", [decision_row(0, None)])
    write_params(workspace.root, serving={"log_prompts": True})
    with pytest.raises(InputError, match=r"\(1 requests\)\. Set serving\.log_prompts to true"):
        run(workspace)
    with pytest.raises(InputError, match="no prompts have been taken from the decision log"):
        run_sample(workspace)


def test_before_the_first_request_the_other_sources_are_used(workspace: Workspace) -> None:
    write_params(workspace.root, serving={"log_prompts": True})
    assert run(workspace).total == 0
    assert set(run_sample(workspace)["source"]) == {"scenes"}


def test_scored_decisions_are_taken_with_and_without_a_source_of_prompts(
    workspace: Workspace,
) -> None:
    log = workspace.root / "log"
    save_decisions(log, [decision_row(0, TEXTS[0], score=0.5), decision_row(1, TEXTS[1])])
    save_decisions(log, [decision_row(2, None, score=0.5)])
    summary = run(workspace)
    assert summary.outcomes == 1 and sum(summary.outcomes_left_out.values()) == 1
    delete_old_decisions(log, NOW)
    save_decisions(log, [decision_row(70, TEXTS[2], score=0.25)])
    save_audit(workspace, 70, 0.75)
    assert run(workspace, 120).outcomes == 2
    table = read_traffic(workspace.outcomes, OUTCOMES)
    assert table["score"].tolist() == [0.5, 0.75]
    (workspace.root / "params.yaml").write_text("serving: {log_days: 1}\n")
    environment = pytest.MonkeyPatch()
    environment.setenv("CATIMAGE_LOG_FOLDER", str(log))
    try:
        later = run(workspace, 24 * 60 + 30)
    finally:
        environment.undo()
    assert (later.outcomes, later.taken) == (1, 0), "outcomes before the window are removed"


def test_the_command_prints_a_summary_or_one_json_document(workspace: Workspace) -> None:
    write_params(workspace.root, serving={"log_prompts": True})
    arguments = ["intake", "--workspace", str(workspace.root)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "0 requests since" in result.output and "0 taken" in result.output
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert json.loads(result.stdout)["taken"] == 0


def run_labelled(workspace: Workspace) -> pd.DataFrame:
    """Run the stages sample, generate and label, and return the scores."""
    run_sample(workspace)
    params = load_params(workspace.params)
    generate.run(workspace, params)
    label.run(workspace, params)
    return read_table(workspace.scores, SCORES, "label")


def files_of(*folders: Path) -> dict[Path, tuple[int, int]]:
    """Return the inode and the time of the last change of the files of images and scores."""
    paths = [p for f in folders for pattern in ("*.parquet", "*.npy") for p in f.glob(pattern)]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def test_only_the_images_and_scores_of_new_prompts_are_made(
    tmp_path: Path, miniature_pool: Path
) -> None:
    workspace, boats = Workspace(tmp_path), [f"a photo of {i} boats" for i in range(99)]
    by_split = {split_of(text, 0.0): text for text in boats}
    texts = list(dict.fromkeys([*by_split.values(), *boats[:9]]))
    (tmp_path / "mine.txt").write_text("\n".join([*texts, ""]))
    sources = [{"kind": "file", "path": "mine.txt"}, {"kind": "decisions", "folder": "log"}]
    tree = {
        "pool": str(miniature_pool),
        "sample": {"sources": sources, "max_similarity": 1, "gate_share": 0},
        "generate": {"seeds": [0], "shard_images": 16},
        "label": {"metrics": ["sharpness"]},
    }
    workspace.params.write_text(yaml.safe_dump(tree))
    save_decisions(tmp_path / "log", [decision_row(0, TEXTS[0])])
    assert run(workspace).taken == 1
    before = run_labelled(workspace)
    folders = (workspace.images, tmp_path / "data" / ".labels")
    files = files_of(*folders)
    save_decisions(tmp_path / "log", [decision_row(i, t) for i, t in enumerate(TEXTS)])
    assert run(workspace).taken == len(TEXTS) - 1
    after = run_labelled(workspace)
    assert files.items() <= files_of(*folders).items(), "earlier files are unchanged"
    columns = ["prompt_id", "candidate", "seed"]
    kept = after.merge(before, on=[*columns, "metric", "version"])
    assert len(kept) == len(before) == (len(texts) + 1) * after["candidate"].nunique()
    assert (kept["value_x"] == kept["value_y"]).all()
    new = files_of(workspace.images).keys() - files.keys()
    keys = pd.concat([read_keys(workspace.images, path.stem) for path in new])
    expected = {prompt_id(text) for text in TEXTS[1:]}
    assert set(keys["prompt_id"]) == expected
    assert len(keys) == len(expected) * after["candidate"].nunique() == len(after) - len(before)
