"""Functions that the tests call in other processes; each opens the state itself."""

from __future__ import annotations

import random

from catimage.serving.messages import ApiKey, ServingError
from catimage.serving.state.store import State
from tests.serving.state.helpers import in_threads


def open_and_read_secret(url: str) -> bytes:
    state = State.open(url)
    secret = state.secret()
    state.close()
    return secret


def reserve(state: State, key: ApiKey, cost: float) -> float:
    """Reserve a cost; return it, or 0 if the ceiling would be exceeded."""
    try:
        return state.spending.reserve(key, cost).cost
    except ServingError as error:
        assert error.code == "insufficient_quota"
        return 0.0


def reserve_many(url: str, key: ApiKey, seed: int) -> float:
    """Reserve 60 random costs in eight threads; return the accepted total."""
    state, draws = State.open(url), random.Random(seed)
    calls = [(state, key, draws.uniform(0.1, 5.0)) for _ in range(60)]
    total = sum(in_threads(reserve, calls))
    state.close()
    return total


def update_many(url: str, count: int) -> None:
    """Update a budget in eight threads; each update increases lambda by one."""
    state = State.open(url)
    call = ("service", 1, 2, 0.5, lambda row: (row.lam or 0.0) + 1)
    in_threads(state.budgets.update, [call] * count)
    state.close()


def claim_all(url: str, worker: str) -> list[str]:
    """Claim and finish jobs in eight threads until none waits; return their identifiers."""
    state = State.open(url)

    def work(number: int) -> list[str]:
        claimed = []
        while job := state.jobs.claim(f"{worker}-{number}"):
            assert state.jobs.finish(job.job_id, f"{worker}-{number}", {"by": worker})
            claimed.append(job.job_id)
        return claimed

    lists = in_threads(work, [(i,) for i in range(8)])
    state.close()
    return [job_id for part in lists for job_id in part]
