import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from catimage.encoders.loading import load_encoder
from catimage.errors import InputError
from catimage.estimators import store
from catimage.estimators.features.steps import PooledEmbedding, RawPrompts, encoders_of
from catimage.estimators.finetuned import FineTunedRegressor
from catimage.params import Encoder

COLOURS = ("red", "blue", "green", "white")
PROMPTS = np.array(
    [f"{n} {c} {s}" for n in ("one", "two", "many") for c in COLOURS for s in ("stars", "moons")],
    object,
)
LABELS = np.array([[float(p.startswith("many")), 5.0 * ("red" in p)] for p in PROMPTS])
QUICK = FineTunedRegressor(
    PooledEmbedding(), rate=3e-4, head_rate=1e-2, batch=12, epochs=5, patience=5, dropout=0.0
)


@pytest.fixture(scope="module")
def fitted():
    return Pipeline([("features", RawPrompts()), ("regressor", clone(QUICK))]).fit(PROMPTS, LABELS)


def test_learns_prompts_and_trains_the_tower(fitted):
    assert np.mean((fitted.predict(PROMPTS) - LABELS) ** 2) < 0.7 * LABELS.var(axis=0).mean()
    frozen = (
        dict(load_encoder(Encoder()).tower.named_parameters())["ln_final.weight"].detach().numpy()
    )
    assert np.abs(fitted[-1].weights_["tower.ln_final.weight"] - frozen).max() > 1e-4


def test_survives_the_disk_without_pickles(fitted, tmp_path):
    store.save(fitted, tmp_path / "ft", {})
    assert (store.load(tmp_path / "ft")[0].predict(PROMPTS) == fitted.predict(PROMPTS)).all()
    assert encoders_of(fitted) == [Encoder()]


def test_no_epoch_predicts_the_mean_labels_that_are_there():
    holed = LABELS.copy()
    holed[::3, 1] = np.nan
    model = clone(QUICK).set_params(epochs=0).fit(PROMPTS, holed)
    assert model.predict(PROMPTS) == pytest.approx(
        np.tile(np.nanmean(holed, axis=0), (len(PROMPTS), 1)), abs=0.01
    )


def test_the_same_seed_gives_the_same_estimator_with_holes():
    holed = LABELS.copy()
    holed[1::4, 0] = np.nan
    first, second = (
        clone(QUICK).set_params(epochs=1).fit(PROMPTS, holed).predict(PROMPTS) for _ in range(2)
    )
    assert (first == second).all()
    assert np.isfinite(first).all()


def test_features_in_place_of_prompts_are_refused():
    with pytest.raises(InputError, match="reads prompts, not features"):
        clone(QUICK).fit(np.zeros((3, 2)), np.zeros((3, 2)))


def test_an_encoder_that_is_none_is_refused():
    with pytest.raises(ValueError, match="text must be a PooledEmbedding, not 'ViT-B-32'"):
        clone(QUICK).set_params(text="ViT-B-32").fit(PROMPTS, LABELS)
