"""Random numbers that select the part of a randomized rule for each request.

A part with a share of 50% must route half of the *requests*. The number is therefore drawn per
request: if it were a function of the prompt alone, a prompt that is sent often would always use the
same part, and the shares of the requests would differ from those of the rule.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

import numpy as np

from catimage.common.arrays import Floats
from catimage.data.prompts.identity import prompt_id
from catimage.errors import InputError


def request_draws(
    prompts: Sequence[str],
    seed: int | str | None = None,
    request_ids: Sequence[str] | None = None,
) -> Floats:
    """Return a number in [0, 1) per request, (n_requests,).

    ================ ====================== =====================================================
    ``seed``         ``request_ids``        the number of request i is
    ================ ====================== =====================================================
    None             None                   random, from the entropy of the operating system
    given            None                   a hash of the seed, the position i and the prompt
    any              given                  a hash of the seed, the id of the request and the prompt
    ================ ====================== =====================================================

    A number never depends on the other requests of the batch. Since the prompt is part of the hash,
    a client that sends every request with the same seed is not restricted to one part.

    Args:
        prompts: the prompt of each request.
        seed: a number or a text that makes the numbers repeatable.
        request_ids: one id per request; equal ids and prompts have equal numbers.

    Raises:
        InputError: the number of ids differs from the number of prompts.
    """
    if request_ids is None and seed is None:
        numbers = np.frombuffer(os.urandom(8 * len(prompts)), np.uint64)
        return (numbers >> np.uint64(11)) / 2**53
    keys = [str(i) for i in range(len(prompts))] if request_ids is None else list(request_ids)
    if len(keys) != len(prompts):
        raise InputError(
            f"request_ids: {len(keys):,} ids for {len(prompts):,} prompts. Pass one id per prompt."
        )
    kind = "position" if request_ids is None else "request"
    rows = zip(keys, prompts, strict=True)
    return np.array([_uniform(f"draw:{seed}:{kind}:{key}:{prompt_id(p)}") for key, p in rows])


def _uniform(text: str) -> float:
    """Return the first 53 bits of the SHA-256 of a text as a number in [0, 1)."""
    return (int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 11) / 2**53
