"""The section ``serving`` of ``params.yaml``: the operator's settings of the service."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from catimage.params.section import Section

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


OPENAI_MODELS = ("gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5", "dall-e-3", "dall-e-2")
"""The names of OpenAI's image models."""


class ServingParams(Section):
    """Settings of the service. The environment variables ``CATIMAGE_SERVING__<KEY>`` override them.

    Attributes:
        budget: mean cost per image that the service keeps, in the cost unit or in percent of the
            cost of the most expensive candidate; empty for the router's own budget.
        qualities: budget of each value of the request field ``quality``; ``auto`` and values that
            are left out have the budget of the service.
        pace: whether lambda follows the running mean cost, so that the budget holds while the
            traffic changes. If not, the calibrated rule is used.
        reference: candidate with whose cost the savings are computed; by default the reference
            condition of the pool, or else the most expensive candidate.
        fallback: candidate that answers if the router cannot be loaded; by default the cheapest.
        explore: share of the requests for which a candidate is drawn at random, so that logged
            traffic can be evaluated off-policy.
        latency_target: seconds within which most requests should be answered. Above it, cheaper
            candidates are preferred. By default three times the time of the slowest candidate.
        max_queue_seconds: a request whose estimated waiting time is longer is refused with 429.
        timeout: seconds after which a request fails.
        drain_seconds: seconds that accepted requests have to finish after SIGTERM.
        rate_limit: default rate limit per key, such as ``60/minute``; empty for no limit.
        max_images: largest ``n`` of a request.
        model_aliases: further names of the router in requests, by default those of OpenAI's models,
            which unmodified clients send. A candidate of the same name has precedence.
        url_seconds: lifetime of the image URLs of ``response_format: url``.
        cors_origins: origins that browsers may call the service from.
        log_decisions: whether each request is a row of the decision log.
        log_prompts: whether the decision log contains the prompts.
        log_days: days after which files of the decision log are deleted.
        refresh_seconds: interval at which the replicas read what they share.
    """

    budget: str = ""
    qualities: dict[str, str] = Field(
        default_factory=lambda: {"low": "20%", "standard": "40%", "high": "100%", "hd": "100%"}
    )
    pace: bool = True
    reference: str = ""
    fallback: str = ""
    explore: float = Field(0.0, ge=0, le=1)
    latency_target: Positive | None = None
    max_queue_seconds: Positive = 20.0
    timeout: Positive = 120.0
    drain_seconds: Positive = 15.0
    rate_limit: str = ""
    max_images: int = Field(10, ge=1, le=10)
    model_aliases: list[str] = Field(default_factory=lambda: list(OPENAI_MODELS))
    url_seconds: Positive = 3600.0
    cors_origins: list[str] = Field(default_factory=list)
    log_decisions: bool = True
    log_prompts: bool = False
    log_days: Positive = 30.0
    refresh_seconds: Positive = 1.0
