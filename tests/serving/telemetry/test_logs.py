"""Structured logs."""

from __future__ import annotations

import io
import json
import logging
import threading
import warnings
from collections.abc import Iterator

import pytest

from catimage.errors import InputError
from catimage.serving.messages import ServingError
from catimage.serving.telemetry import logs

PROMPT = 'a "red" ring\nbeside the harbour'


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Where the lines of the configured logs are written."""
    monkeypatch.delenv(logs.LEVEL_VARIABLE, raising=False)
    for name in logs.VERBOSITY:
        monkeypatch.setenv(name, "error")
    names = (None, *logs.ALIGNED_LOGGERS, *logs.PROMPT_LOGGERS, "uvicorn.access", "bentoml.access")
    loggers = [logging.getLogger(name) for name in names]
    before = [(a, a.level, a.propagate, a.handlers[:]) for a in loggers]
    written = io.StringIO()
    logs.configure("router", written)
    yield written
    logging.captureWarnings(False)
    for logger, level, propagate, handlers in before:
        logger.setLevel(level)
        logger.propagate, logger.handlers[:] = propagate, handlers


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_has_the_time_the_level_and_the_ids_of_its_request(stream: io.StringIO) -> None:
    with logs.request_logged("r-1", "key_1"):
        logging.getLogger("catimage.x").info("request", extra={"status": 200, "seconds": 0.5})
        logs.bind(candidate="small")
        threading.Thread(target=lambda: logging.getLogger("catimage.x").info("thread")).start()
        logging.getLogger("catimage.x").info("later")
        assert logs.request_id() == "r-1"
    logging.getLogger("catimage.x").info("outside")
    by_message = {line["message"]: line for line in lines(stream)}
    first = by_message["request"]
    assert (first["level"], first["logger"], first["service"]) == ("INFO", "catimage.x", "router")
    assert (first["request_id"], first["key_id"], first["status"]) == ("r-1", "key_1", 200)
    assert str(first["time"]).startswith("20") and str(first["time"]).endswith("+00:00")
    assert by_message["later"]["candidate"] == "small"
    assert "request_id" not in by_message["outside"] and logs.request_id() == ""


def test_prompts_are_hidden_in_messages_and_exceptions_of_all_threads(stream: io.StringIO) -> None:
    def fail() -> None:
        try:
            raise ValueError(f"cannot tokenize {PROMPT!r}")
        except ValueError:
            logging.getLogger("engine").exception("failed for %s", PROMPT)

    with logs.request_logged("r-1", private=(PROMPT, None)):
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    (line,) = lines(stream)
    assert line["message"] == "failed for [prompt]"
    assert "harbour" not in stream.getvalue()
    assert line["exc_info"][-1] == "ValueError: cannot tokenize '[prompt]'"
    logging.getLogger("engine").info("no request: %s", "harbour")
    assert "harbour" in stream.getvalue()


def test_texts_that_are_read_later_are_hidden_until_the_request_ends(stream: io.StringIO) -> None:
    logs.conceal(PROMPT)
    with logs.request_logged("r-1"):
        logs.conceal(PROMPT, None)
        logging.getLogger("engine").error("failed for %s", PROMPT)
    assert lines(stream)[0]["message"] == "failed for [prompt]"
    assert logs.redacted(PROMPT) == PROMPT


def test_a_prompt_stays_hidden_until_its_last_request_ends(stream: io.StringIO) -> None:
    first, second = logs.hide(PROMPT), logs.hide(PROMPT)
    logs.reveal(first)
    assert logs.redacted(f"x {PROMPT}") == "x [prompt]"
    logs.reveal(second)
    assert logs.redacted(f"x {PROMPT}") == f"x {PROMPT}"


def test_expected_errors_have_no_stack_trace_and_others_a_short_one(stream: io.StringIO) -> None:
    def nested(depth: int, error: Exception) -> None:
        if not depth:
            raise error
        nested(depth - 1, error)

    for error in (ServingError("n: too large. Use 10.", 400), RuntimeError("device lost")):
        try:
            nested(100, error)
        except Exception:
            logging.getLogger("catimage.x").exception("failed")
    expected, unexpected = lines(stream)
    assert expected["exc_info"] == ["ServingError: n: too large. Use 10."]
    assert len(unexpected["exc_info"]) == logs.FRAMES + 1
    assert unexpected["exc_info"][-1] == "RuntimeError: device lost"
    assert "nested" in unexpected["exc_info"][-2]


def test_other_loggers_write_the_same_lines_or_none(stream: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").warning("from uvicorn")
    logging.getLogger("bentoml.serving").warning("from bentoml")
    logging.getLogger("uvicorn.access").info("GET /path?prompt=secret")
    logging.getLogger("diffusers.pipelines").warning("truncated: ['of the prompt']")
    warnings.warn("from warnings", stacklevel=1)
    assert [line["message"] for line in lines(stream)][:2] == ["from uvicorn", "from bentoml"]
    assert "from warnings" in stream.getvalue() and len(lines(stream)) == 3


def test_the_level_is_an_environment_variable(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(logs.LEVEL_VARIABLE, "error")
    logs.configure("router", stream)
    logging.getLogger("catimage.x").warning("quiet")
    assert stream.getvalue() == ""
    monkeypatch.setenv(logs.LEVEL_VARIABLE, "loud")
    with pytest.raises(InputError, match="unknown level 'LOUD'"):
        logs.configure("router", stream)
