"""JSON responses without validation of the content, which may be megabytes of base64."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from starlette.responses import Response

JSON = "application/json"
"""Media type of JSON."""


def json_bytes(document: object) -> bytes:
    """Return a document as JSON. A number that is not finite becomes null."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def json_response(
    document: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a response with a JSON document."""
    return Response(json_bytes(document), status, dict(headers or {}), JSON)
