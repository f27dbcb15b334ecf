import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from catimage.errors import InputError
from catimage.estimators import store
from catimage.estimators.features.text import PooledEmbedding
from catimage.estimators.linear import RidgeRegressor
from catimage.estimators.load_estimators import (
    load_estimator,
    load_estimators,
    load_spread,
    n_settings_tried,
    read_out_of_fold,
)
from catimage.workspace import Workspace

PROMPTS = np.array(["one red ring", "two blue rings", "a grey star"], object)
CANDIDATES = ["cheap", "expensive"]


@pytest.fixture
def workspace(tmp_path):
    """Return a workspace with the estimators ``a`` and ``b`` of the metric ``q``."""
    workspace = Workspace(tmp_path)
    for name in ("a", "b"):
        pipeline = Pipeline([("features", PooledEmbedding()), ("regressor", RidgeRegressor())])
        fitted = pipeline.fit(PROMPTS, np.arange(6.0).reshape(3, 2))
        meta = {"candidates": CANDIDATES, "tried": 12} if name == "a" else {"candidates": ["x"]}
        store.save(fitted, workspace.estimators / "q" / name, meta)
    return workspace


def test_a_loaded_estimator_reads_the_stored_embeddings_of_the_workspace(workspace):
    folder = workspace.estimators / "q" / "a"
    assert load_estimator(workspace, folder, CANDIDATES)[0].stored is None
    workspace.embeddings("tiny").mkdir(parents=True)
    stored = load_estimator(workspace, folder, CANDIDATES)[0].stored
    assert stored == str(workspace.embeddings("tiny"))
    assert n_settings_tried(folder) == 12
    assert n_settings_tried(workspace.estimators / "q" / "b") == 1


def test_an_estimator_of_other_candidates_is_refused(workspace):
    estimators = load_estimators(workspace, "q", CANDIDATES)
    assert next(estimators)[0] == "a"
    with pytest.raises(InputError, match=r"trained on other candidates\. Run 'catimage train'"):
        next(estimators)
    assert next(load_estimators(workspace, "q", ["x"], first="b"))[0] == "b"
    with pytest.raises(InputError, match="no estimator found"):
        next(load_estimators(workspace, "unknown", CANDIDATES))


def test_a_missing_spread_is_none(workspace):
    assert load_spread(workspace, workspace.root / "spread") is None
    _, meta = load_spread(workspace, workspace.estimators / "q" / "b")
    assert meta == {"candidates": ["x"]}


def test_out_of_fold_predictions_are_returned_in_the_order_of_the_arguments(tmp_path):
    path = tmp_path / "out_of_fold.parquet"
    assert read_out_of_fold(path, ["p", "q"], CANDIDATES) is None
    table = {"prompt_id": ["q", "p"], "expensive": [3.0, 4.0], "cheap": [1.0, 2.0]}
    pd.DataFrame(table).to_parquet(path, index=False)
    assert read_out_of_fold(path, ["p", "q"], CANDIDATES).tolist() == [[2, 4], [1, 3]]
    for ids, names in ((["p"], CANDIDATES), (["p", "r"], CANDIDATES), (["p", "q"], ["cheap"])):
        with pytest.raises(InputError, match="the prompts or candidates differ"):
            read_out_of_fold(path, ids, names)
