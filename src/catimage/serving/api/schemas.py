"""The response bodies, for the OpenAPI document. Responses are not validated against them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel


class ErrorFields(BaseModel):
    """Why a request cannot be answered."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """An error response, in OpenAI's format."""

    error: ErrorFields


class TokenDetails(BaseModel):
    """Numbers of tokens by kind."""

    image_tokens: int
    text_tokens: int


class TokenUsage(BaseModel):
    """The tokens of the prompt that the text encoder read; images have no tokens."""

    input_tokens: int
    input_tokens_details: TokenDetails
    output_tokens: int
    output_tokens_details: TokenDetails
    total_tokens: int


class ImageItem(BaseModel):
    """One image: base64, or a URL, or why the safety checker flagged it."""

    b64_json: str | None = None
    url: str | None = None
    flagged: str | None = None


class FlaggedItem(BaseModel):
    """An image that the safety checker flagged."""

    index: int
    reason: str


class Explanation(BaseModel):
    """The figures of all candidates, with ``explain: true``."""

    qualities: dict[str, float] | None = None
    costs: dict[str, float] | None = None
    propensities: dict[str, float] | None = None
    excluded: dict[str, str] | None = None
    ranked: list[str] | None = None
    pressure: float | None = None
    scope: str | None = None
    shadow: str | None = None


class CatimageSummary(Explanation):
    """Which candidate made the images, their cost, and the decision."""

    request_id: str
    candidate: str
    cost: float = Field(description="total cost of the images")
    cost_unit: str
    saved: float = Field(description="cost of the reference candidate minus cost")
    reference: str
    lam: float | None = Field(alias="lambda")
    predicted_quality: float | None
    seed: int
    seconds: dict[str, float]
    router_version: str
    tokens: int
    truncated: bool
    fallbacks: dict[str, str]
    batch_size: int
    flagged: list[FlaggedItem]
    ignored_fields: list[str]


class ImagesAnswer(BaseModel):
    """OpenAI's ImagesResponse, with the object ``catimage``."""

    created: int
    background: str
    data: list[ImageItem]
    output_format: str
    size: str
    quality: str | None = None
    safety_identifier: str | None = None
    usage: TokenUsage
    catimage: CatimageSummary


class ModelItem(BaseModel):
    """The router or a candidate."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    cost: float | None = None
    cost_unit: str | None = None
    size: str | None = None


class ModelsAnswer(BaseModel):
    """OpenAI's list of models."""

    object: Literal["list"]
    data: list[ModelItem]


class CandidateItem(BaseModel):
    """Cost of one image of a candidate, and its predicted quality for the prompt."""

    candidate: str
    cost: float
    predicted_quality: float | None


class DecisionAnswer(Explanation):
    """The decision for one prompt; ``cost`` is the cost of all ``n`` images."""

    request_id: str
    prompt: str
    candidate: str
    cost: float
    cost_unit: str
    lam: float | None = Field(alias="lambda")
    predicted_quality: float | None
    metric: str | None
    estimator: str | None
    router_version: str
    tokens: int
    truncated: bool
    seconds: float
    candidates: list[CandidateItem]
    ignored_fields: list[str]


class DecisionsAnswer(BaseModel):
    """One decision per prompt."""

    object: Literal["list"]
    data: list[DecisionAnswer]


class RouteAnswer(RootModel[DecisionAnswer | DecisionsAnswer]):
    """One decision, or one decision per prompt if ``prompt`` is a list."""


class RouterAnswer(RootModel[dict[str, Any]]):
    """Version, lineage, budget, lambda, running mean cost and deferral curve of the router."""


class JobAnswer(BaseModel):
    """A request for images that is answered later."""

    id: str
    object: Literal["image.job"]
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    created_at: int
    started_at: int | None
    finished_at: int | None
    error: ErrorFields | None


class StatusAnswer(BaseModel):
    """The state of the service; ``status`` is ``ready``, or else why it is not."""

    model_config = ConfigDict(extra="allow")

    status: str
    reason: str | None = None
