"""Tests of saved estimators. Estimators of earlier versions are refused with a message to train
again.
"""

import json
from zipfile import ZipFile

import numpy as np
import pytest
from sklearn.pipeline import Pipeline

from catimage.errors import InputError
from catimage.estimators import store
from catimage.estimators.features.text import PooledEmbedding
from catimage.estimators.linear import RidgeRegressor

PROMPTS = np.array(["one red ring", "two blue rings", "a grey star", "an empty wall"], object)


@pytest.fixture
def saved(tmp_path):
    """Return the folder of a saved ridge regression on embeddings."""
    pipeline = Pipeline([("features", PooledEmbedding()), ("regressor", RidgeRegressor())])
    store.save(pipeline.fit(PROMPTS, np.eye(4)), tmp_path / "e", {"name": "e"})
    return tmp_path / "e"


def test_the_format_is_saved_but_not_returned_with_the_metadata(saved):
    assert json.loads((saved / "estimator.json").read_text()) == {
        "format": store.FORMAT,
        "name": "e",
    }
    assert store.load(saved)[1] == store.read_meta(saved) == {"name": "e"}


@pytest.mark.parametrize("document", [{}, {"format": store.FORMAT - 1}, {"format": "2"}])
def test_another_format_is_refused(saved, document):
    (saved / "estimator.json").write_text(json.dumps({"name": "e", **document}))
    for read in (store.load, store.read_meta):
        with pytest.raises(InputError) as error:
            read(saved)
        assert str(error.value) == (
            f"{saved}: an older version of CATImage wrote this estimator (format"
            f" {document.get('format', 'unknown')}; this version reads {store.FORMAT}). Run"
            " 'catimage train' and 'catimage calibrate' again."
        )


@pytest.mark.parametrize(
    ("new", "old"),
    [
        ("catimage.estimators.features.text", "catimage.estimators.features"),
        ("catimage.estimators.linear", "catimage.estimators.ridge"),
    ],
)
def test_types_with_the_module_names_of_earlier_versions_are_refused(saved, new, old):
    path = saved / "estimator.skops"
    with ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert new.encode() in files["schema.json"]
    with ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content.replace(f'"{new}"'.encode(), f'"{old}"'.encode()))
    with pytest.raises(InputError, match="types that are not trusted") as error:
        store.load(saved)
    assert "Run 'catimage train' and 'catimage calibrate' again." in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_without_an_estimator_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no estimator found\. Run 'catimage train' first"):
        store.load(tmp_path)
