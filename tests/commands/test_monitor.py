"""``catimage monitor``: state between runs, late and repeated rows, changes of the router."""

from __future__ import annotations

import json
import os
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from catimage.cli.app import app
from catimage.commands.monitor import monitor
from catimage.data.decisions import write_decisions
from catimage.data.schema import PROMPTS, read_table
from catimage.encoders.cache import cached_encoder
from catimage.encoders.embeddings import Embeddings
from catimage.errors import InputError
from catimage.params import Params, load_params
from catimage.router import Router
from catimage.workspace import Workspace
from tests.monitoring.decisions import NOON, decision
from tests.trained_workspace import prompts_of

WIDTH = 12
HOUR = timedelta(hours=1)
SETTLED = timedelta(minutes=2)
"""Time after the end of an interval after which its rows are read."""


def vectors(n: int, seed: int, shift: float = 0.0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, WIDTH)) + np.eye(WIDTH)[0] * 4
    rows[:, 1] += shift
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def save_embeddings(workspace: Workspace, encoder: str, seed: int = 0) -> None:
    ids = read_table(workspace.prompts, PROMPTS, "sample")["prompt_id"].tolist()
    n = len(ids)
    Embeddings(
        ids,
        vectors(n, seed),
        np.zeros((n, 1, 1), np.float16),
        np.zeros((n, 1), np.float16),
        np.arange(n + 1),
        np.zeros(n, bool),
        encoder,
    ).save(workspace.embeddings(encoder))


@pytest.fixture(scope="module")
def decided(calibrated_folder: Path) -> list[dict[str, Any]]:
    """Decisions of the router for prompts like those that it was trained on."""
    router = Router.load(calibrated_folder / "models" / "router")
    return [
        {
            "candidate": d.candidate,
            "cost": d.cost,
            "lambda": d.lam,
            "qualities": list(d.qualities.items()),
            "prompt": d.prompt,
        }
        for d in router.route(prompts_of(400)[::-1], seed=1)
    ]


@pytest.fixture
def setting(calibrated_folder: Path, tmp_path: Path) -> tuple[Workspace, Params, Path]:
    """A workspace with embeddings, its parameters without audits, and an empty decision log."""
    workspace = Workspace(tmp_path / "workspace")
    shutil.copytree(calibrated_folder, workspace.root)
    params = load_params(
        workspace.params, ["monitor.audit.prompts=0", "monitor.prompts.baseline_prompts=100"]
    )
    save_embeddings(workspace, params.encoder.name)
    (tmp_path / "log").mkdir()
    return workspace, params, tmp_path / "log"


def write(
    log: Path,
    decided: list[dict[str, Any]],
    hour: int,
    n: int = 60,
    shift: float = 0.0,
    number: int = 0,
    **values: Any,
) -> None:
    """Write the rows of an hour after noon, a minute or less apart."""
    embeddings = vectors(n, 100 + hour, shift).astype(np.float16)
    rows = [
        decision(hour * 60 + i * 60 / n, **(decided[(hour * n + i) % 400] | values))
        | {"embedding": embeddings[i], "prompt": None}
        for i in range(n)
    ]
    write_decisions(log, "a", number, rows)


def statuses(report: Any) -> dict[str, str]:
    return {check.check: check.status for check in report.checks}


def test_steady_traffic_gives_no_alarm_and_a_shift_gives_one(setting, decided):
    workspace, params, log = setting
    write(log, decided, 0)
    first = monitor(workspace, params, log, NOON + HOUR + SETTLED)
    assert first.requests == 60 and first.alarms == [] and first.until == NOON + HOUR
    assert statuses(first) == {
        "prompts": "ok",
        "streams": "ok",
        "decisions": "ok",
        "cost": "ok",
        "quality": "skipped",
    }
    for hour in range(1, 6):
        write(log, decided, hour, shift=4.0 * (hour > 2))
    reports = [monitor(workspace, params, log, NOON + HOUR * h + SETTLED) for h in range(2, 7)]
    assert [report.since for report in reports] == [NOON + HOUR * h for h in range(1, 6)]
    alarms = [report.alarms for report in reports]
    assert alarms[:2] == [[], []] and "prompts" in [name for a in alarms[2:4] for name in a]
    assert sum("prompts" in a for a in alarms) == 1
    assert statuses(reports[-1])["prompts"] == "paused"
    document = json.loads((workspace.reports / "monitor.json").read_text())
    assert document == reports[-1].to_document()


def test_a_second_run_in_the_same_interval_changes_nothing(setting, decided):
    workspace, params, log = setting
    write(log, decided, 0)
    first = monitor(workspace, params, log, NOON + HOUR + SETTLED)
    state = workspace.monitor_state.read_bytes()
    (workspace.reports / "monitor.json").unlink()
    write(log, decided, 0, n=5, number=1)
    assert monitor(workspace, params, log, NOON + 1.5 * HOUR) == first
    assert workspace.monitor_state.read_bytes() == state
    assert (workspace.reports / "monitor.json").exists()


def test_a_killed_run_is_repeated_with_the_same_result(setting, decided, monkeypatch):
    workspace, params, log = setting
    write(log, decided, 0)
    with monkeypatch.context() as context:
        context.setattr("catimage.commands.monitor.write_state", _killed)
        with pytest.raises(KeyboardInterrupt):
            monitor(workspace, params, log, NOON + HOUR + SETTLED)
    document = json.loads((workspace.reports / "monitor.json").read_text())
    again = monitor(workspace, params, log, NOON + 1.2 * HOUR)
    assert again.to_document() == document


def _killed(*_: Any) -> None:
    raise KeyboardInterrupt


def test_late_rows_are_counted_and_copies_are_not(setting, decided):
    workspace, params, log = setting
    write(log, decided, 0)
    monitor(workspace, params, log, NOON + HOUR + SETTLED)
    write(log, decided, 0, n=7, number=1)
    write(log, decided, 1, n=10)
    write(log, decided, 1, n=10, number=1)
    report = monitor(workspace, params, log, NOON + 2 * HOUR + SETTLED)
    assert (report.requests, report.late) == (10, 6)  # one of the seven has a known id and time
    assert monitor(workspace, params, log, NOON + 3 * HOUR + SETTLED).late == 0


def test_intervals_without_a_run_are_processed_later(setting, decided):
    workspace, params, log = setting
    together = Workspace(workspace.root.with_name("other"))
    shutil.copytree(workspace.root, together.root)
    for hour in range(3):
        write(log, decided, hour)
    single = [monitor(workspace, params, log, NOON + HOUR * h + SETTLED) for h in (1, 2, 3)]
    entire = monitor(together, params, log, NOON + 3 * HOUR + SETTLED)
    assert entire.requests == 180 and entire.until == single[-1].until
    for one, other in zip(single[-1].checks, entire.checks, strict=True):
        assert one.evidence == pytest.approx(other.evidence, abs=0.02)


def test_the_checks_start_again_for_other_prompts_or_another_budget(setting, decided):
    workspace, params, log = setting
    for hour in range(3):
        write(log, decided, hour)

    def counts(document: dict[str, Any]) -> tuple[int, bool]:
        checks = document["checks"]
        return checks["prompts"]["drift"]["count"], checks["cost"]["detectors"][0][0] is None

    monitor(workspace, params, log, NOON + HOUR + SETTLED)
    save_embeddings(workspace, params.encoder.name, seed=9)
    monitor(workspace, params, log, NOON + 2 * HOUR + SETTLED)
    assert counts(json.loads(workspace.monitor_state.read_text()))[0] == 60
    other = params.model_copy(
        update={"serving": params.serving.model_copy(update={"budget": "30%"})}
    )
    report = monitor(workspace, other, log, NOON + 3 * HOUR + SETTLED)
    assert counts(json.loads(workspace.monitor_state.read_text()))[0] == 100  # the baseline
    cost = next(check for check in report.checks if check.check == "cost")
    assert cost.details["budget"] == pytest.approx(1.2)


def test_repeated_training_prompts_are_no_drift(setting, decided):
    """Forty training prompts in turn, of which a witness would otherwise learn every one."""
    workspace, params, log = setting
    table = read_table(workspace.prompts, PROMPTS, "sample")
    ids = table.loc[table["split"] == "train", "prompt_id"].tolist()[:40]
    points = Embeddings.load(workspace.embeddings(params.encoder.name)).take(ids).pooled
    rows = [
        decision(i, **(decided[i % 400] | {"prompt_id": ids[i % 40], "prompt": None}))
        | {"embedding": points[i % 40].astype(np.float16)}
        for i in range(600)
    ]
    write_decisions(log, "a", 0, rows)
    report = monitor(workspace, params, log, NOON + 10 * HOUR + SETTLED)
    prompts = report.checks[0]
    assert (prompts.observations, prompts.evidence, prompts.details["auc"]) == (0, 0, None)
    assert prompts.message.endswith("600 requests with training or recent prompts do not count.")


def test_one_new_prompt_that_everybody_sends_is_no_drift(setting, decided):
    workspace, params, log = setting
    for hour in range(5):
        write(log, decided, hour, shift=4.0, prompt_id="viral")
    reports = [monitor(workspace, params, log, NOON + HOUR * h + SETTLED) for h in range(1, 6)]
    assert [report.checks[0].observations for report in reports] == [1, 0, 0, 0, 0]
    assert all(report.alarms == [] for report in reports)


def test_requests_of_other_budgets_are_not_compared(setting, decided):
    workspace, params, log = setting
    write(log, decided, 0, scope="quality:low")
    report = monitor(workspace, params, log, NOON + HOUR + SETTLED)
    observations = {check.check: check.observations for check in report.checks}
    assert observations["decisions"] == observations["cost"] == 0
    assert observations["prompts"] == 60


def test_embeddings_of_another_encoder_are_reported(setting, decided):
    workspace, params, log = setting
    rows = [decision(i, embedding=np.ones(5, np.float16)) for i in range(3)]
    write_decisions(log, "a", 0, rows)
    prompts = monitor(workspace, params, log, NOON + HOUR + SETTLED).checks[0]
    assert prompts.status == "skipped"
    assert f"of the width of the training prompts' ({WIDTH})" in prompts.message


def test_logged_prompts_without_embedding_are_encoded(setting, decided):
    """A router without a text encoder, such as ``ridge``, logs no embeddings."""
    workspace, params, log = setting
    texts = read_table(workspace.prompts, PROMPTS, "sample")["prompt"].tolist()
    encoder = cached_encoder(params.encoder)
    encoder.encode(texts).save(workspace.embeddings(params.encoder.name))
    for hour in range(3):
        of_hour = [f"{text} and a ring" for text in texts[hour * 40 :][:40]]
        rows = [
            decision(hour * 60 + i, **(decided[i] | {"prompt": text}))
            for i, text in enumerate(of_hour)
        ]
        write_decisions(log, "a", hour, rows)
    report = monitor(workspace, params, log, NOON + 3 * HOUR + SETTLED)
    checks = {check.check: check for check in report.checks}
    assert checks["prompts"].observations > 100 and checks["streams"].observations > 100


def test_without_embeddings_or_prompts_checks_are_skipped_with_a_sentence(setting, decided):
    workspace, params, log = setting
    shutil.rmtree(workspace.embeddings(params.encoder.name))
    audited = load_params(workspace.params, ["monitor.audit.prompts=1"])
    write(log, decided, 0)
    report = monitor(workspace, audited, log, NOON + HOUR + SETTLED)
    messages = {check.check: check.message for check in report.checks}
    assert messages["prompts"] == "data/embeddings has no embeddings of the encoder 'tiny'."
    assert messages["quality"] == (
        "the decision log has no prompts. Set serving.log_prompts to true."
    )


def test_a_check_that_fails_does_not_stop_the_others(setting, decided, monkeypatch):
    workspace, params, log = setting

    def fails(*_: Any) -> None:
        raise InputError("river: broken. Fix it.")

    monkeypatch.setattr("catimage.commands.monitor.check_streams", fails)
    write(log, decided, 0)
    report = monitor(workspace, params, log, NOON + HOUR + SETTLED)
    assert statuses(report)["streams"] == "failed" and statuses(report)["cost"] == "ok"
    assert "streams: failed: river: broken. Fix it." in report.sentences


def test_a_damaged_state_is_reported_with_the_fix(setting):
    workspace, params, log = setting
    for text, problem in (("{", "is damaged"), ('{"format": 99}', "another version")):
        workspace.monitor_state.parent.mkdir(exist_ok=True)
        workspace.monitor_state.write_text(text)
        with pytest.raises(InputError, match=f"monitor.json: .*{problem}.* Delete it; the next"):
            monitor(workspace, params, log, NOON)


def test_a_clock_that_was_ahead_is_reported_instead_of_an_old_report(setting, decided):
    workspace, params, log = setting
    write(log, decided, 0)
    monitor(workspace, params, log, NOON + 48 * HOUR + SETTLED)
    state = workspace.monitor_state.read_bytes()
    sentence = r"up to 2026-05-06 12:00 UTC, but now it is 2026-05-04 13:02 UTC\. Correct the clock"
    with pytest.raises(InputError, match=sentence):
        monitor(workspace, params, log, NOON + HOUR + SETTLED)
    assert workspace.monitor_state.read_bytes() == state
    assert monitor(workspace, params, log, NOON + 47.1 * HOUR).until == NOON + 48 * HOUR
    workspace.monitor_state.unlink()
    assert monitor(workspace, params, log, NOON + HOUR + SETTLED).requests == 60


def test_the_command_prints_sentences_or_a_document(setting, decided, monkeypatch):
    workspace, _, log = setting
    arguments = ["monitor", "--workspace", str(workspace.root), "--decisions", str(log)]
    result = CliRunner().invoke(app, arguments)
    lines = result.output.splitlines()
    assert result.exit_code == 0 and len(lines) == 6 and lines[0].startswith("monitor: 0 requests")
    document = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).output)
    assert document["alarms"] == [] and len(document["checks"]) == 5
    monkeypatch.setitem(os.environ, "CATIMAGE_LOG_FOLDER", str(log.with_name("not-started")))
    result = CliRunner().invoke(app, arguments[:3])
    assert result.exit_code == 0, result.output


def test_invalid_input_is_refused(setting, tmp_path):
    workspace, _, log = setting
    arguments = ["monitor", "--workspace", str(workspace.root), "--decisions"]
    error = CliRunner().invoke(app, [*arguments, str(tmp_path / "missing")]).exception
    assert isinstance(error, InputError) and "folder not found" in str(error)
    shutil.rmtree(workspace.router)
    error = CliRunner().invoke(app, [*arguments, str(log)]).exception
    assert isinstance(error, InputError) and "models/router: not found" in str(error)
