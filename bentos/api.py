"""What goes in and out over HTTP: request models, OpenAI-shaped errors, and reading a body of
limited size.
"""

from __future__ import annotations

from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

MAX_BODY = 1024 * 1024
"""Bytes of a request body; a prompt of the longest kind takes a tenth of it."""

_CODES = {
    "missing": "missing_required_parameter",
    "extra_forbidden": "unknown_parameter",
    "json_invalid": "invalid_json",
    "model_type": "invalid_json",
}


class ApiError(Exception):
    """An answer that is not 2xx, in OpenAI's shape: ``message`` is one sentence, ``param`` the
    field to mend.
    """

    def __init__(
        self, message: str, param: str | None = None, code: str = "invalid_value", status: int = 400
    ) -> None:
        super().__init__(message)
        self.message, self.param, self.code, self.status = message, param, code, status


class RouteRequest(BaseModel):
    """``POST /v1/route``: a prompt, and ``budget`` (mean cost, in the cost unit) or ``lambda``;
    neither means the calibrated lambda.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    prompt: str = Field(min_length=1)
    budget: float | None = Field(None, gt=0, allow_inf_nan=False)
    lam: float | None = Field(None, ge=0, allow_inf_nan=False, alias="lambda")

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if self.budget is not None and self.lam is not None:
            raise ApiError("Give 'budget' or 'lambda', not both.", "budget")
        return self


class ImagesRequest(RouteRequest):
    """``POST /v1/images/generations``: OpenAI's fields and ours. ``model`` is ``catimage`` (the
    router) or a candidate, which it forces.
    """

    model: str = "catimage"
    n: int = Field(1, ge=1, le=10)
    size: str = Field("auto", pattern=r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$")
    response_format: Literal["b64_json"] = "b64_json"
    seed: int | None = Field(None, ge=0, lt=2**32)


Model = TypeVar("Model", bound=BaseModel)


async def read(request: Request, model: type[Model]) -> Model:
    """The request's JSON body as ``model``.

    Raises:
        ApiError: 413 for a body over :data:`MAX_BODY`, 400 for anything else that is wrong, with
            the field's name.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise ApiError(
                f"The request body is larger than {MAX_BODY} bytes: send a shorter prompt.",
                None,
                "request_too_large",
                413,
            )
    try:
        return model.model_validate_json(bytes(body))
    except ValidationError as error:
        raise _first(error) from error


def _first(error: ValidationError) -> ApiError:
    """The first thing that is wrong with a request, in words."""
    first = error.errors()[0]
    kind, field = first["type"], str(first["loc"][0]) if first["loc"] else None
    code = _CODES.get(kind, "invalid_type" if kind.endswith("_type") else "invalid_value")
    if code == "invalid_json":
        return ApiError("The request body must be one JSON object.", None, code)
    if code == "missing_required_parameter":
        return ApiError(f"Missing required parameter: '{field}'.", field, code)
    if code == "unknown_parameter":
        return ApiError(f"Unknown parameter: '{field}'.", field, code)
    if field == "response_format":
        return ApiError(
            "'response_format' must be 'b64_json': this service stores no image that a url could"
            " name.",
            field,
        )
    if field == "size":
        return ApiError(
            "'size' must be WIDTHxHEIGHT, such as '64x64', or be left out.", field, code
        )
    message = first["msg"].removeprefix("Input ").rstrip(".")
    return ApiError(
        f"'{field}' {message[0].lower()}{message[1:]} (found {_shown(first['input'])}).",
        field,
        code,
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


async def on_error(_: Request, error: Exception) -> JSONResponse:
    """Any exception as OpenAI's error object; what nobody foresaw is a 500 without its details,
    which are in the log.
    """
    if isinstance(error, HTTPException):
        routes = "GET /v1/models, POST /v1/images/generations and POST /v1/route"
        error = ApiError(
            f"{error.detail}: the routes are {routes}.", None, "not_found", error.status_code
        )
    if not isinstance(error, ApiError):
        error = ApiError("The service failed to answer: see its log.", None, "internal_error", 500)
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    body = {
        "error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}
    }
    return JSONResponse(body, error.status)
