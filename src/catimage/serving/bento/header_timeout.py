"""A time limit for the headers of a request, which uvicorn lacks."""

from __future__ import annotations

import asyncio
import json
from typing import Any

HEADER_SECONDS = 10.0
"""Time from the start of a connection, or from the first byte of a later request, until the headers
must be complete.
"""
_MESSAGE = "request: the headers are not complete in time. Send them faster."
_BODY = json.dumps(
    {
        "error": {
            "message": _MESSAGE,
            "type": "invalid_request_error",
            "param": None,
            "code": "request_timeout",
        }
    }
).encode()
ANSWER = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)
"""The answer before a connection is closed."""


def limit_header_time(config: Any, seconds: float = HEADER_SECONDS) -> None:
    """Close connections whose headers are not complete in time, after an answer with status 408.

    Otherwise, clients that send a few bytes at a time could keep any number of connections open.

    Args:
        config: a loaded ``uvicorn.Config``; connections that are accepted later have the limit.
        seconds: the limit.
    """
    config.http_protocol_class = _limited(config.http_protocol_class, seconds)


def _limited(base: type[Any], seconds: float) -> type[Any]:
    """Return a subclass of a protocol of uvicorn for HTTP/1.1."""

    class LimitedProtocol(base):  # type: ignore[misc]
        header_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self.header_timer = self.loop.call_later(seconds, self.end_connection)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self.cancel_timer()  # a request is being answered; its body has a limit of its own
            elif self.header_timer is None and not self.transport.is_closing():
                self.header_timer = self.loop.call_later(seconds, self.end_connection)

        def connection_lost(self, exc: Exception | None) -> None:
            self.cancel_timer()
            super().connection_lost(exc)

        def cancel_timer(self) -> None:
            if self.header_timer is not None:
                self.header_timer.cancel()
                self.header_timer = None

        def end_connection(self) -> None:
            self.header_timer = None
            if not self.transport.is_closing():
                self.transport.write(ANSWER)
                self.transport.close()

    return LimitedProtocol
