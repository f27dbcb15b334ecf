"""Structured logs: one JSON object per line on standard error.

Prompts never appear in the logs. The texts of the requests that are being answered are replaced in
every message and exception (:func:`request_logged`), and libraries that log parts of prompts are
only logged above the level of those messages.
"""

from __future__ import annotations

import logging
import os
import threading
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import IO, Any

from pythonjsonlogger.core import LogData
from pythonjsonlogger.json import JsonFormatter

from catimage.errors import InputError

LEVEL_VARIABLE = "CATIMAGE_LOG_LEVEL"
"""Environment variable with the level of the logs; ``INFO`` by default."""
FRAMES = 20
"""Maximum number of stack frames of an unexpected exception."""
LONGEST_MESSAGE = 2000
"""Maximum number of characters of a message."""
PROMPT_LOGGERS = ("diffusers", "transformers", "open_clip", "httpx", "httpcore", "openai", "PIL")
"""Loggers of libraries that log parts of prompts, or every request, as warnings or below."""
VERBOSITY = ("DIFFUSERS_VERBOSITY", "TRANSFORMERS_VERBOSITY")
"""Variables with the level of libraries that configure their loggers when they are imported."""
ALIGNED_LOGGERS = (
    "uvicorn",
    "uvicorn.error",
    "uvicorn.asgi",
    "bentoml",
    "bentoml.access",
    "circus",
)
"""Loggers whose own handlers :func:`configure` removes."""
OWN_LOGGERS = ("catimage.access", "catimage.decisions")
"""Loggers of the lines of each request, whose fields contain no texts of clients."""
REPLACEMENT = "[prompt]"

_OUTSIDE: Mapping[str, str] = MappingProxyType({})
_REQUEST: ContextVar[Mapping[str, str]] = ContextVar("catimage_request", default=_OUTSIDE)
_CONCEALED: ContextVar[list[tuple[str, ...]] | None] = ContextVar("catimage_hidden", default=None)
_LOCK = threading.Lock()
_PRIVATE: Counter[str] = Counter()
"""The texts of the requests that are being answered, which must not be logged."""


@contextmanager
def request_logged(
    request_id: str, key_id: str | None = None, private: tuple[str | None, ...] = ()
) -> Iterator[None]:
    """Add the ids of a request to the log lines of a ``with`` block, and hide its texts.

    The texts are hidden in the lines of all threads of the process.

    Args:
        request_id: identifier of the request.
        key_id: identifier of the client's key.
        private: texts of the request, such as the prompt.
    """
    concealed = [hide(*private)]
    outer, outer_concealed = _REQUEST.get(), _CONCEALED.get()
    _REQUEST.set({"request_id": request_id} | ({"key_id": key_id} if key_id else {}))
    _CONCEALED.set(concealed)
    try:
        yield
    finally:  # a token cannot be used if another task closes a generator
        _REQUEST.set(outer)
        _CONCEALED.set(outer_concealed)
        for texts in concealed:
            reveal(texts)


def conceal(*texts: str | None) -> None:
    """Hide texts from the logs until the present request has ended (:func:`request_logged`)."""
    concealed = _CONCEALED.get()
    if concealed is not None:
        concealed.append(hide(*texts))


def bind(**fields: str) -> None:
    """Add fields, such as ``key_id``, to the later log lines of this request."""
    _REQUEST.set({**_REQUEST.get(), **fields})


def request_id() -> str:
    """Return the identifier of the request of this task or thread; empty outside a request."""
    return _REQUEST.get().get("request_id", "")


def hide(*texts: str | None) -> tuple[str, ...]:
    """Hide texts from the logs until :func:`reveal` is called with the returned value."""
    shown = tuple(form for text in texts if text and len(text) > 3 for form in _forms(text))
    with _LOCK:
        _PRIVATE.update(shown)
    return shown


def reveal(texts: tuple[str, ...]) -> None:
    """Undo one :func:`hide`."""
    with _LOCK:
        _PRIVATE.subtract(texts)
        for text in texts:
            if _PRIVATE[text] <= 0:
                del _PRIVATE[text]


def _forms(text: str) -> set[str]:
    """Return the forms in which a text may appear: as it is, and quoted."""
    text = text.strip()
    if text.isascii() and text.isprintable() and not set("'\"\\") & set(text):
        return {text}
    return {text, repr(text)[1:-1], text.encode("unicode_escape", "backslashreplace").decode()}


def redacted(message: str) -> str:
    """Return a message without the hidden texts, cut at the maximum length."""
    with _LOCK:
        texts = sorted(_PRIVATE, key=len, reverse=True)
    for text in texts:
        if text in message:
            message = message.replace(text, REPLACEMENT)
    return message[:LONGEST_MESSAGE]


class StructuredFormatter(JsonFormatter):
    """Formats a log record as one JSON object.

    An exception that the caller expects (:class:`~catimage.errors.InputError`) has no stack trace;
    others have the frames nearest to the error.
    """

    def __init__(self, service: str) -> None:
        super().__init__(
            "%(levelname)s %(name)s %(message)s",
            rename_fields={"levelname": "level", "name": "logger"},
            timestamp="time",
            static_fields={"service": service, "pid": os.getpid()},
            json_ensure_ascii=False,
        )

    def process_log_record(self, log_data: LogData) -> LogData:
        """Add the ids of the request, and hide the texts of all requests."""
        for name, value in _REQUEST.get().items():
            log_data.setdefault(name, value)
        if log_data.get("logger") in OWN_LOGGERS:
            return log_data
        return {k: redacted(v) if isinstance(v, str) else v for k, v in log_data.items()}

    def formatException(self, ei: Any) -> list[str]:  # type: ignore[override]
        """Return the message of an exception, after its frames if it is unexpected."""
        kind, error, trace = ei
        message = redacted(f"{kind.__name__}: {error}")
        if isinstance(error, InputError):
            return [message]
        frames = traceback.extract_tb(trace)[-FRAMES:]
        return [*(f"{f.filename}:{f.lineno} {f.name}" for f in frames), message]


def configure(service: str, stream: IO[str] | None = None) -> None:
    """Send all logs of the process to one handler that writes JSON lines.

    Args:
        service: name of the service, a field of each line.
        stream: where the lines are written; by default standard error.

    Raises:
        InputError: ``CATIMAGE_LOG_LEVEL`` is not a level.
    """
    level = os.environ.get(LEVEL_VARIABLE, "INFO").upper()
    if level not in logging.getLevelNamesMapping():
        raise InputError(
            f"{LEVEL_VARIABLE}: unknown level {level!r}. Use DEBUG, INFO, WARNING or ERROR."
        )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(StructuredFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ALIGNED_LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
    for name in ("uvicorn.access", "bentoml.access"):  # RequestContext logs requests
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in PROMPT_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in VERBOSITY:
        os.environ.setdefault(name, "error")
    logging.captureWarnings(True)
