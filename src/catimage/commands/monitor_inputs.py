"""What the monitor compares the traffic with: the training prompts and the router."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from catimage.commands.monitor_champion import ServedRouter, load_served
from catimage.commands.monitor_state import MonitorState
from catimage.common.arrays import Float32, Floats
from catimage.common.hashing import file_digest, folder_digest
from catimage.data.dataset import Dataset
from catimage.data.schema import PROMPTS, read_table
from catimage.encoders.cache import cached_encoder, prefer_light_encoder
from catimage.encoders.embeddings import METADATA_FILE, Embeddings
from catimage.errors import InputError
from catimage.monitoring.expected import LAMBDAS, Expected
from catimage.monitoring.reference import MINIMUM, Reference
from catimage.params import Params
from catimage.router import Router
from catimage.serving.pacers import budget_as_cost, static_rule
from catimage.workspace import Workspace


def reference_prompts(
    workspace: Workspace, params: Params, state: MonitorState
) -> tuple[Reference, frozenset[str]] | None:
    """Return the training prompts and their ids; None if too few have stored embeddings.

    If they are not those of the last run, the checks of prompts start again.

    Raises:
        InputError: the prompts or the embeddings are damaged, or do not belong together.
    """
    folder = workspace.embeddings(params.encoder.name)
    if not (folder / METADATA_FILE).exists():
        return None
    digest = file_digest(folder / METADATA_FILE)
    if digest != state.reference:
        state.forget("prompts", "streams")
        state.reference, state.recent_prompts = digest, []
    prompts = read_table(workspace.prompts, PROMPTS, "sample")
    ids = prompts.loc[prompts["split"] != "gate", "prompt_id"].tolist()
    if len(ids) < MINIMUM:
        return None
    return Reference.fit(Embeddings.load(folder).take(ids).pooled), frozenset(ids)


def encode_prompts(params: Params, prompts: list[str]) -> Float32:
    """Return the embeddings of at least one prompt, (n_prompts, width), as they are logged.

    Raises:
        InputError: the text encoder of the parameters cannot be loaded.
    """
    prefer_light_encoder(params.encoder)
    return np.asarray(cached_encoder(params.encoder).encode(prompts).pooled, np.float32)


def expected_behaviour(
    workspace: Workspace, params: Params, state: MonitorState, served: ServedRouter | None = None
) -> Expected:
    """Return the expected behaviour of the router, which is computed once for each router.

    If the router, the budget or the share of random decisions changed since the last run, the
    checks of decisions, cost and quality, and the stream of the predicted quality, start again.

    Args:
        workspace: the workspace of the data.
        params: its parameters.
        state: the state of the last run.
        served: the router; by default that of the workspace.

    Raises:
        InputError: the router or a table is missing or damaged, or the budget is invalid.
    """
    serving = params.serving
    served = served or ServedRouter(folder_digest(workspace.router))
    key = f"{served.digest} {serving.budget} {serving.pace} {serving.explore}"
    key += f" {LAMBDAS} lambdas"  # the state of an earlier version has none
    if state.expected is not None and state.expected["router"] == key:
        return Expected(**state.expected)
    router = load_served(workspace, served)
    budget, _ = budget_as_cost(serving.budget, "serving.budget", router)
    prompts = read_table(workspace.prompts, PROMPTS, "sample")
    texts = prompts.loc[prompts["split"].isin(["val", "test"]), "prompt"].tolist()
    expected = Expected.compute(
        key,
        router,
        static_rule(router, budget, serving.pace),
        budget,
        texts,
        _labels(workspace, router),
        serving.explore,
    )
    state.forget("decisions", "cost", "quality")
    state.checks.get("streams", {}).pop("quality", None)
    state.expected = expected.to_json()
    return expected


def find_expected(
    workspace: Workspace, params: Params, state: MonitorState, served: ServedRouter
) -> Callable[[], Expected]:
    """Return a function that returns the value of :func:`expected_behaviour`.

    If a champion that is not the router of the workspace cannot be loaded, the function raises
    InputError, so that only the checks that call it fail.

    Raises:
        InputError: the router of the workspace or a table is missing or damaged.
    """

    def fail(problem: str) -> Expected:
        raise InputError(problem)

    try:
        expected = expected_behaviour(workspace, params, state, served)
    except InputError as error:
        if served.digest == folder_digest(workspace.router):
            raise
        return partial(fail, str(error))
    return lambda: expected


def _labels(workspace: Workspace, router: Router) -> Floats | None:
    """Return the labels of the routed metric; None without a table of scores."""
    if not workspace.scores.exists():
        return None
    dataset = Dataset.read(workspace, router.cost_unit, complete=False)
    return np.asarray(dataset.labels(router.metric), float)
