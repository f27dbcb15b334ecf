"""Time of one routing decision, with and without text encoding, for each kind of estimator, and
time of one search of the k nearest neighbors among 100,000 prompts.
"""

from __future__ import annotations

import itertools

import numpy as np

from benchmarks.fitting import embeddings, labels
from benchmarks.measure import Row, seconds
from catimage.estimators.build import build_estimator
from catimage.estimators.context import EstimatorContext
from catimage.estimators.knn import CosineKNNRegressor
from catimage.params import EncoderParams, EstimatorParams
from catimage.router import Router
from catimage.routing.curve import deferral_curve
from catimage.routing.randomized import RoutingRule
from catimage.scenes.grammar import sample_scene

ESTIMATORS = {
    "transformer": {"max_iter": 2},
    "knn": {},
    "ridge": {},
    "kernel_ridge": {},
    "mlp": {"max_iter": 2},
    "clusters": {},
    "lstm": {"max_iter": 1},
    "finetuned": {"max_iter": 0},
}
"""Settings by kind of estimator that shorten training without changing the size of the model."""
STEPS = (1, 2, 4, 8, 16, 32)
PROMPTS, WIDTH, NEIGHBORS = 100_000, 768, 20


def rows() -> list[Row]:
    """Return two rows per kind of estimator (one for ``finetuned``, whose text encoder cannot be
    excluded), and three rows of the nearest-neighbor search.
    """
    rng = np.random.default_rng(0)
    prompts = list(dict.fromkeys(sample_scene(rng).caption() for _ in range(1200)))
    table = []
    for name, settings in ESTIMATORS.items():
        router = _router(EstimatorParams(name=name, settings=settings), prompts, rng)
        table += _decision_rows(router, prompts)
    return [*table, *_neighbor_rows()]


def _router(spec: EstimatorParams, prompts: list[str], rng: np.random.Generator) -> Router:
    """Return a router whose estimator is trained on random quality labels."""
    costs, quality = np.array(STEPS, float), rng.random((len(prompts), len(STEPS)))
    context = EstimatorContext(steps=STEPS, step_groups=("g",) * len(STEPS))
    pipeline = build_estimator(spec, context)[0].fit(np.array(prompts, object), quality)
    return Router(
        pipeline,
        spec.name,
        "q",
        "tflops",
        "tiny",
        [str(cost) for cost in costs],
        costs,
        8.0,
        RoutingRule.from_parts((1, 0.01)),
        deferral_curve(quality, costs),
    )


def _decision_rows(router: Router, prompts: list[str]) -> list[Row]:
    """Return the rows of one router, with and without text encoding."""
    from catimage.encoders.cache import cached_encoder

    name, endless_prompts = router.estimator_name, itertools.cycle(prompts)
    encoder = cached_encoder(EncoderParams())
    with encoder.temporarily_cleared():  # every prompt is encoded, as in a server
        with_text = seconds(lambda: router.route([next(endless_prompts)]), repeats=300) * 1e3
    table = [_decision_row(f"{name}, text encoding included", with_text, 5)]
    if name != "finetuned":
        encoder.encode(prompts)  # the cache now contains all prompts
        without_text = seconds(lambda: router.route([next(endless_prompts)]), repeats=300) * 1e3
        table.append(_decision_row(f"{name}, without text encoding", without_text, 1))
    return table


def _decision_row(name: str, milliseconds: float, target: int) -> Row:
    return Row(f"decision, {name}", f"{milliseconds:.2f} ms", target=f"{target} ms median")


def _neighbor_rows() -> list[Row]:
    from sklearn.neighbors import KNeighborsRegressor

    x, new = embeddings(PROMPTS, WIDTH), embeddings(1000, WIDTH, seed=1)
    y = labels(x)
    index = CosineKNNRegressor(NEIGHBORS)
    fit = seconds(lambda: index.fit(x, y), repeats=1)
    brute = KNeighborsRegressor(NEIGHBORS, algorithm="brute", metric="cosine").fit(x, y)
    queries, brute_queries = (itertools.cycle(new[:, None]) for _ in range(2))
    milliseconds = seconds(lambda: index.predict(next(queries)), repeats=500) * 1e3
    alternative = seconds(lambda: brute.predict(next(brute_queries)), repeats=10) * 1e3
    recall, correlation = _recall(index, x, y, new)
    size = f"{PROMPTS:,} x {WIDTH}"
    return [
        Row(
            f"decision, knn among {size}",
            f"{milliseconds:.2f} ms",
            f"{alternative:.1f} ms (scikit-learn)",
            f"{alternative / milliseconds:.0f}x",
            "1 ms median",
        ),
        Row(
            f"knn among {size}: true neighbors found",
            f"{recall:.1%}; predictions correlate {correlation:.3f} with exact ones",
        ),
        Row(f"fit, knn, {size}", f"{fit:.1f} s"),
    ]


def _recall(
    index: CosineKNNRegressor, x: np.ndarray, y: np.ndarray, new: np.ndarray
) -> tuple[float, float]:
    """Return the share of the true nearest neighbors that the index finds, and the correlation of
    the predictions of the index with the predictions of an exact search.
    """
    exact = CosineKNNRegressor(NEIGHBORS, algorithm="brute").fit(x, y)
    pairs = zip(index.neighbors(new), exact.neighbors(new), strict=True)
    shared = [  # all labels are different, so that they identify the prompts
        len(set(index.labels_[a, 0]) & set(exact.labels_[b, 0])) for a, b in pairs
    ]
    predicted = np.concatenate([index.predict(new), exact.predict(new)], axis=1)
    correlation = np.diag(np.corrcoef(predicted.T)[: y.shape[1], y.shape[1] :])
    return float(np.mean(shared)) / NEIGHBORS, float(np.mean(correlation))
