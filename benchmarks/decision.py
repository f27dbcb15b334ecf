"""One decision with a loaded router, with and without encoding the text, and of k nearest
neighbours among 100,000.
"""

from __future__ import annotations

import itertools

import numpy as np

from benchmarks.fitting import embeddings, labels
from benchmarks.measure import Row, seconds
from catimage.estimators.build import build_estimator
from catimage.estimators.context import EstimatorContext
from catimage.params import EncoderParams, EstimatorParams
from catimage.router import Router
from catimage.routing.curve import deferral_curve
from catimage.routing.randomized import RoutingRule
from catimage.scenes.grammar import draw_scene

KINDS = {
    "transformer": {"max_iter": 2},
    "knn": {},
    "ridge": {},
    "kernel_ridge": {},
    "mlp": {"max_iter": 2},
    "boosting": {},
    "clusters": {},
    "lstm": {"max_iter": 1},
    "finetuned": {"max_iter": 0},
}
"""With settings that make training short; they leave the size of what is trained as it is."""
STEPS = (1, 2, 4, 8, 16, 32)
MANY, WIDTH, NEIGHBOURS = 100_000, 768, 20


def rows() -> list[Row]:
    rng = np.random.default_rng(0)
    prompts = list(dict.fromkeys(draw_scene(rng).caption() for _ in range(1200)))
    cost, quality = np.array(STEPS, float), rng.random((len(prompts), len(STEPS)))
    out = []
    for name, settings in KINDS.items():
        context = EstimatorContext(steps=STEPS, step_groups=("g",) * len(STEPS))
        spec = EstimatorParams(name=name, settings=settings)
        pipeline = build_estimator(spec, context)[0].fit(np.array(prompts, object), quality)
        curve = deferral_curve(quality, cost)
        router = Router(
            pipeline,
            name,
            "q",
            "tflops",
            "tiny",
            [str(c) for c in cost],
            cost,
            8.0,
            RoutingRule.from_parts((1, 0.01)),
            curve,
        )
        out += _rows_of(router, prompts)
    return [*out, *_many_neighbours()]


def _rows_of(router: Router, prompts: list[str]) -> list[Row]:
    from catimage.encoders.cache import cached_encoder

    texts = itertools.cycle(prompts)
    with cached_encoder(
        EncoderParams()
    ).temporarily_cleared():  # every prompt is encoded, as new ones are
        whole = seconds(lambda: router.route([next(texts)]), repeats=300) * 1e3
    name = router.estimator_name
    out = [
        Row(f"decision, {name}, text encoding included", f"{whole:.2f} ms", target="5 ms median")
    ]
    if name != "finetuned":  # which is a text encoder itself
        cached_encoder(EncoderParams()).encode(prompts)
        rest = (
            seconds(lambda: router.route([next(texts)]), repeats=300) * 1e3
        )  # words and kernels included
        out.append(
            Row(f"decision, {name}, without text encoding", f"{rest:.2f} ms", target="1 ms median")
        )
    return out


def _many_neighbours() -> list[Row]:
    from sklearn.neighbors import KNeighborsRegressor

    from catimage.estimators.knn import CosineKNNRegressor

    x, new = embeddings(MANY, WIDTH), embeddings(1000, WIDTH, seed=1)
    y = labels(x)
    ours = CosineKNNRegressor(NEIGHBOURS)
    fit = seconds(lambda: ours.fit(x, y), repeats=1)
    singles, others = (itertools.cycle(new[:, None]) for _ in range(2))
    spent = seconds(lambda: ours.predict(next(singles)), repeats=500) * 1e3
    recall, likeness = _recall(ours, x, y, new)
    theirs = KNeighborsRegressor(NEIGHBOURS, algorithm="brute", metric="cosine").fit(x, y)
    slow = seconds(lambda: theirs.predict(next(others)), repeats=10) * 1e3
    size = f"{MANY:,} x {WIDTH}"
    return [
        Row(
            f"decision, knn among {size}",
            f"{spent:.2f} ms",
            f"{slow:.1f} ms (scikit-learn)",
            f"{slow / spent:.0f}x",
            "1 ms median",
        ),
        Row(
            "the same: true neighbours found",
            f"{recall:.1%}; predictions correlate {likeness:.3f} with exact ones",
        ),
        Row(f"fit, knn, {size}", f"{fit:.1f} s"),
    ]


def _recall(fitted: object, x: np.ndarray, y: np.ndarray, new: np.ndarray) -> tuple[float, float]:
    """The share of the true nearest that are found, and the correlation of the predictions with
    those of all prompts compared.
    """
    from catimage.estimators.knn import CosineKNNRegressor

    assert isinstance(fitted, CosineKNNRegressor)
    exact = CosineKNNRegressor(NEIGHBOURS, algorithm="brute").fit(x, y)
    pairs = zip(fitted.neighbors(new), exact.neighbors(new), strict=True)
    shared = [
        len(set(fitted.labels_[a, 0]) & set(exact.labels_[b, 0])) for a, b in pairs
    ]  # labels are all different
    both = np.concatenate([fitted.predict(new), exact.predict(new)], axis=1)
    return float(np.mean(shared)) / NEIGHBOURS, float(
        np.mean(np.diag(np.corrcoef(both.T)[: y.shape[1], y.shape[1] :]))
    )
