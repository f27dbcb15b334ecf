import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from catimage.encoders.loading import load_encoder
from catimage.errors import InputError
from catimage.estimators import store
from catimage.estimators.features.steps import text_encoders
from catimage.estimators.features.text import PooledEmbedding, RawPrompts
from catimage.estimators.finetuned import FineTunedRegressor
from catimage.params import EncoderParams

COLOURS = ("red", "blue", "green", "white")
PROMPTS = np.array(
    [f"{n} {c} {s}" for n in ("one", "two", "many") for c in COLOURS for s in ("stars", "moons")],
    object,
)
LABELS = np.array([[float(p.startswith("many")), 5.0 * ("red" in p)] for p in PROMPTS])
QUICK = FineTunedRegressor(
    PooledEmbedding(),
    learning_rate=3e-4,
    head_learning_rate=1e-2,
    batch_size=12,
    max_iter=5,
    n_iter_no_change=5,
    dropout=0.0,
)


@pytest.fixture(scope="module")
def fitted():
    return Pipeline([("features", RawPrompts()), ("regressor", clone(QUICK))]).fit(PROMPTS, LABELS)


def test_training_reduces_the_error_and_changes_the_weights_of_the_text_encoder(fitted):
    assert np.mean((fitted.predict(PROMPTS) - LABELS) ** 2) < 0.7 * LABELS.var(axis=0).mean()
    frozen = (
        dict(load_encoder(EncoderParams()).text_tower.named_parameters())["ln_final.weight"]
        .detach()
        .numpy()
    )
    assert np.abs(fitted[-1].weights_["text_tower.ln_final.weight"] - frozen).max() > 1e-4


def test_a_loaded_estimator_predicts_the_same_as_the_saved_estimator(fitted, tmp_path):
    store.save(fitted, tmp_path / "ft", {})
    assert (store.load(tmp_path / "ft")[0].predict(PROMPTS) == fitted.predict(PROMPTS)).all()
    assert text_encoders(fitted) == [EncoderParams()]


def test_predictions_before_the_first_epoch_are_the_mean_labels():
    incomplete = LABELS.copy()
    incomplete[::3, 1] = np.nan
    model = clone(QUICK).set_params(max_iter=0).fit(PROMPTS, incomplete)
    assert model.predict(PROMPTS) == pytest.approx(
        np.tile(np.nanmean(incomplete, axis=0), (len(PROMPTS), 1)), abs=0.01
    )


def test_the_same_seed_gives_the_same_predictions_with_missing_labels():
    incomplete = LABELS.copy()
    incomplete[1::4, 0] = np.nan
    first, second = (
        clone(QUICK).set_params(max_iter=1).fit(PROMPTS, incomplete).predict(PROMPTS)
        for _ in range(2)
    )
    assert (first == second).all()
    assert np.isfinite(first).all()


def test_a_feature_matrix_is_refused():
    with pytest.raises(InputError, match="reads prompts, not features"):
        clone(QUICK).fit(np.zeros((3, 2)), np.zeros((3, 2)))


def test_an_embedding_of_the_wrong_type_is_refused():
    with pytest.raises(ValueError, match="embedding: must be a PooledEmbedding, not 'ViT-B-32'"):
        clone(QUICK).set_params(embedding="ViT-B-32").fit(PROMPTS, LABELS)
