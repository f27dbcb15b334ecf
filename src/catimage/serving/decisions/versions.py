"""The versions of the router that a service has loaded, and which of them decides a request."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from catimage.common.arrays import Floats

if TYPE_CHECKING:
    from catimage.encoders.cache import CachedEncoder
    from catimage.encoders.embeddings import Embeddings
    from catimage.router import Router

FALLBACK_VERSION = "fallback"
"""The version that decisions without a router report."""
WARM_UP_PROMPT = "an empty white wall"
CACHED_EMBEDDINGS_BYTES = 32 * 1024**2
"""Memory limit of the embeddings of recent prompts per text encoder, about 2,000 prompts."""


@dataclass(frozen=True, eq=False)
class RouterVersion:
    """A loaded router.

    Attributes:
        version: name of the version in logs and responses, such as the version in the registry.
        router: the router.
        costs: cost of one image of each candidate, by name.
        encoder: the text encoder whose embeddings are logged and whose tokens are counted; None if
            the router does not use a text encoder.
    """

    version: str
    router: Router
    costs: Mapping[str, float] = field(init=False)
    encoder: CachedEncoder | None = field(init=False)

    def __post_init__(self) -> None:
        from catimage.encoders.cache import cached_encoder, prefer_light_encoder
        from catimage.estimators.features.steps import set_embeddings_folder, text_encoders

        router = self.router
        estimators = [router.estimator, *router.floor_estimators.values(), router.spread]
        specs = text_encoders(estimators)
        for spec in specs:
            prefer_light_encoder(spec)
        encoders = [cached_encoder(spec) for spec in specs]
        for encoder in encoders:
            encoder.keep_recent(CACHED_EMBEDDINGS_BYTES)
        set_embeddings_folder(estimators, None)
        costs = dict(zip(router.candidates, router.costs.tolist(), strict=True))
        object.__setattr__(self, "costs", costs)
        object.__setattr__(self, "encoder", encoders[0] if encoders else None)

    def warm_up(self) -> None:
        """Predict the quality for one prompt, which loads everything that decisions need."""
        self.predict([WARM_UP_PROMPT])

    def predict(self, prompts: Sequence[str]) -> tuple[Floats, Floats, Embeddings | None]:
        """Predict the metrics of every candidate for each prompt; each prompt is tokenised once.

        Returns:
            The predicted quality, (n_prompts, n_candidates); the input of the routing rule,
            (1 + n_floors, n_prompts, n_candidates); and the embeddings, if there is an encoder.
        """
        embeddings = self.encoder.encode(list(prompts)) if self.encoder else None
        qualities = self.router.predict(prompts)
        return qualities, self.router.rule_inputs(prompts, qualities), embeddings


@dataclass(frozen=True)
class Versions:
    """The versions in use. A request uses the same versions throughout.

    Attributes:
        champion: the version that decides; None if no router could be loaded.
        challenger: the version that is tried; None if there is none.
        shadow: whether the challenger decides every request too, without effect.
        share: share of the requests that the challenger decides with effect (canary).
    """

    champion: RouterVersion | None = None
    challenger: RouterVersion | None = None
    shadow: bool = False
    share: float = 0.0

    def deciding(self, request_id: str) -> RouterVersion | None:
        """Return the version that decides a request, by the hash of its identifier."""
        if self.challenger is None or self.share <= 0:
            return self.champion
        return self.challenger if _uniform(request_id) < self.share else self.champion

    def shadowing(self, deciding: RouterVersion | None) -> RouterVersion | None:
        """Return the version whose choice is only reported; None if there is none."""
        return self.challenger if self.shadow and deciding is self.champion else None


def _uniform(request_id: str) -> float:
    digest = hashlib.sha256(f"canary:{request_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def float16_row(embeddings: Embeddings, i: int) -> np.ndarray:
    """Return the pooled embedding of prompt ``i`` in half precision, (width,)."""
    return np.asarray(embeddings.pooled[i], np.float16)
