"""One decision with a loaded router, with and without encoding the text."""

from __future__ import annotations

import numpy as np

from benchmarks.measure import Row, seconds
from catimage.estimators.build import build
from catimage.params import Encoder
from catimage.router import Router
from catimage.routing.curve import deferral_curve
from catimage.tiny.scenes import draw_scene


def rows() -> list[Row]:
    rng = np.random.default_rng(0)
    prompts = list(dict.fromkeys(draw_scene(rng).caption() for _ in range(1200)))
    cost, labels = np.array([1.0, 2, 4, 8, 16, 32]), rng.random((len(prompts), 6))
    out = []
    for name in ("transformer", "knn", "ridge"):
        pipeline, _ = build(name, Encoder())
        if name == "transformer":
            pipeline.set_params(regressor__epochs=2)
        pipeline.fit(np.array(prompts, object), labels)
        router = Router(pipeline, name, "q", "tflops", "tiny", [str(c) for c in cost], cost, 8.0, 0.01, deferral_curve(labels, cost))
        out += _rows_of(router, prompts)
    return out


def _rows_of(router: Router, prompts: list[str]) -> list[Row]:
    texts = iter(prompts * 10)
    whole = seconds(lambda: router.route([next(texts)]), repeats=300) * 1e3
    features, regressor = router.estimator.named_steps["features"], router.estimator.named_steps["regressor"]
    embedded = features.transform(np.array(prompts[:1], object))
    rest = seconds(lambda: router.decide(prompts[:1], regressor.predict(embedded), router.lam), repeats=300) * 1e3
    name = router.estimator_name
    return [
        Row(f"decision, {name}, text encoding included", f"{whole:.2f} ms", target="5 ms median"),
        Row(f"decision, {name}, without text encoding", f"{rest:.2f} ms", target="1 ms median"),
    ]
