"""HTTP interface: request models, errors in OpenAI's format, and size-limited request bodies."""

from __future__ import annotations

from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

MAX_BODY = 1024 * 1024
"""The largest request body in bytes, about ten times the longest prompt."""
ROUTES = "GET /v1/models, POST /v1/images/generations and POST /v1/route"
"""The routes, as they are listed in error messages."""

_CODES = {
    "missing": "missing_required_parameter",
    "extra_forbidden": "unknown_parameter",
    "json_invalid": "invalid_json",
    "model_type": "invalid_json",
}
"""Error codes of the OpenAI API for error types of pydantic."""


class ApiError(Exception):
    """An error response in OpenAI's format.

    Attributes:
        message: the problem, and the fix if there is one.
        param: the invalid field of the request; None if the error is not about a field.
        code: a short identifier of the error.
        status: the HTTP status.
    """

    def __init__(
        self, message: str, param: str | None = None, code: str = "invalid_value", status: int = 400
    ) -> None:
        super().__init__(message)
        self.message, self.param, self.code, self.status = message, param, code, status


class RouteRequest(BaseModel):
    """The body of ``POST /v1/route``.

    Attributes:
        prompt: the prompt.
        budget: the largest mean cost per prompt, in the router's cost unit.
        lam: ``lambda``, in quality per unit of cost. Without ``budget`` and ``lambda``, the
            calibrated lambda is used; both together are an error.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    prompt: str = Field(min_length=1)
    budget: float | None = Field(None, gt=0, allow_inf_nan=False)
    lam: float | None = Field(None, ge=0, allow_inf_nan=False, alias="lambda")

    @model_validator(mode="after")
    def _budget_or_lambda(self) -> Self:
        if self.budget is not None and self.lam is not None:
            raise ApiError("Give 'budget' or 'lambda', not both.", "budget")
        return self


class ImagesRequest(RouteRequest):
    """The body of ``POST /v1/images/generations``: fields of the OpenAI API and of ``/v1/route``.

    Attributes:
        model: ``catimage`` for the router, or the name of a candidate to use without the router.
        n: the number of images.
        size: ``WIDTHxHEIGHT``, or ``auto`` for the size of the candidate.
        response_format: always ``b64_json``.
        seed: the seed of the first image; the next images have the next seeds.
    """

    model: str = "catimage"
    n: int = Field(1, ge=1, le=10)
    size: str = Field("auto", pattern=r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$")
    response_format: Literal["b64_json"] = "b64_json"
    seed: int | None = Field(None, ge=0, lt=2**32)


Body = TypeVar("Body", bound=BaseModel)


async def parse_body(request: Request, model: type[Body]) -> Body:
    """Return the JSON body of a request as an instance of ``model``.

    Raises:
        ApiError: the body is larger than :data:`MAX_BODY` (status 413), or invalid (status 400).
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            message = f"The request body is larger than {MAX_BODY} bytes. Send a shorter prompt."
            raise ApiError(message, None, "request_too_large", 413)
    try:
        return model.model_validate_json(bytes(body))
    except ValidationError as error:
        raise _validation_error(error) from error


def _validation_error(error: ValidationError) -> ApiError:
    """Return the first error of a request body in OpenAI's format."""
    first = error.errors()[0]
    kind, field = first["type"], str(first["loc"][0]) if first["loc"] else None
    code = _CODES.get(kind, "invalid_type" if kind.endswith("_type") else "invalid_value")
    reason = first["msg"].removeprefix("Input ").rstrip(".")
    message = f"'{field}' {reason[0].lower()}{reason[1:]} (found {_abbreviated(first['input'])})."
    if field == "response_format":
        message = "'response_format' must be 'b64_json', because the service stores no images."
    if field == "size":
        message = "'size' must be WIDTHxHEIGHT, such as '64x64', or be left out."
    messages = {
        "invalid_json": "The request body must be one JSON object.",
        "missing_required_parameter": f"Missing required parameter: '{field}'.",
        "unknown_parameter": f"Unknown parameter: '{field}'.",
    }
    return ApiError(messages.get(code, message), None if code == "invalid_json" else field, code)


def _abbreviated(value: Any) -> str:
    """Return at most 40 characters of a value, for a message."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


async def on_error(_: Request, error: Exception) -> JSONResponse:
    """Return any exception as an error object of the OpenAI API.

    The response to an unexpected exception has status 500 and no details; the details are in the
    log of the service.
    """
    if isinstance(error, HTTPException):
        message = f"{error.detail}: the routes are {ROUTES}."
        error = ApiError(message, None, "not_found", error.status_code)
    if not isinstance(error, ApiError):
        error = ApiError("Internal error. See the log of the service.", None, "internal_error", 500)
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    body = {"message": error.message, "type": kind, "param": error.param, "code": error.code}
    return JSONResponse({"error": body}, error.status)
