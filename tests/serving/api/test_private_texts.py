"""Prompts, users and keys of HTTP requests are neither in the logs nor in the decision log."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import pandas as pd
import pytest

from catimage.serving.api.errors import error_headers
from catimage.serving.messages import ServingError
from catimage.serving.tasks import ImageTask, TaskEvent
from catimage.serving.telemetry.decision_log import DecisionLog
from catimage.serving.telemetry.facade import Telemetry
from catimage.serving.telemetry.metrics import shared_metrics
from tests.serving.api import harness
from tests.serving.api.harness import running_app
from tests.serving.cores import CANDIDATES
from tests.serving.groups import ScriptedGroup
from tests.serving.telemetry.test_logs import stream  # noqa: F401


def test_no_private_text_is_logged(
    root: Path,
    tmp_path: Path,
    stream: io.StringIO,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "decisions"
    log = DecisionLog(folder, "r", b"key", shared_metrics(), flush_seconds=0.1)
    monkeypatch.setattr(harness, "Telemetry", lambda: Telemetry(log))
    prompt, user = "a confidential harbour", "user-4711"

    async def broken(task: ImageTask) -> AsyncIterator[TaskEvent]:
        raise RuntimeError(f"cannot draw {task.prompt!r}")
        yield

    async def main() -> str:
        group = ScriptedGroup("g", *CANDIDATES)
        async with running_app(root, group) as service:
            _, secret = service.backend.state.keys.create("client")
            service.client.headers["Authorization"] = f"Bearer {secret}"
            await service.document(prompt=prompt, user=user, negative_prompt=prompt[::-1])
            assert (await service.error(prompt=prompt, n=99))["status"] == 400
            group.scripts = [broken]
            await service.document(prompt=prompt, user=user)
            wrong = {"Authorization": f"Bearer {secret}x"}
            assert (await service.client.get("/v1/models", headers=wrong)).status_code == 401
            return secret

    secret = asyncio.run(main())
    logged = stream.getvalue()
    assert logged.count('"decision"') == 2 and "cannot draw" in logged
    (path,) = folder.rglob("*.parquet")
    for text in (prompt, prompt[::-1], user, secret, secret[17:]):
        assert text not in logged and text.encode() not in path.read_bytes()
    rows = pd.read_parquet(path)
    assert len(rows) == 2 and rows["prompt"].isna().all() and rows["user"].notna().all()


def test_errors_that_pass_say_when_to_try_again() -> None:
    assert error_headers(ServingError("x", 503))["Retry-After"] == "5"
    assert "Retry-After" not in error_headers(ServingError("x", 503, retryable=False))
    assert "Retry-After" not in error_headers(ServingError("x", 400))
