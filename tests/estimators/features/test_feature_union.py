import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.kernel_approximation import Nystroem
from sklearn.pipeline import FeatureUnion

from catimage.estimators.features.feature_union import GaussianKernelFeatures
from catimage.estimators.features.steps import feature_step, kernel_features
from catimage.estimators.features.text import LayerMeans, PooledEmbedding
from catimage.params import EncoderParams, FeatureParams


def step_of(*features):
    """Return the feature step of features, given by kind or by a dictionary of parameters."""
    params = [FeatureParams(**({"kind": f} if isinstance(f, str) else f)) for f in features]
    return feature_step(params, EncoderParams())


def test_combined_columns_are_the_columns_of_each_feature_times_its_weight(prompts):
    both = step_of("tfidf", {"kind": "embedding", "weight": 0.5}).fit(prompts)
    tfidf = step_of("tfidf").fit_transform(prompts)
    embedded = step_of("embedding").fit_transform(prompts)
    x = both.transform(prompts)
    assert sp.issparse(x) and x.format == "csr"
    assert x.toarray() == pytest.approx(np.hstack([tfidf.toarray(), 0.5 * embedded]), abs=1e-6)


def test_features_equal_those_of_the_feature_union_of_scikit_learn(prompts):
    both = step_of("tfidf", {"kind": "embedding", "weight": 0.5}).fit(prompts)
    expected = FeatureUnion.transform(both, prompts)
    assert both.transform(prompts).toarray() == pytest.approx(expected.toarray())
    assert both.fit_transform(prompts).toarray() == pytest.approx(expected.toarray())


def test_one_prompt_has_the_same_row_alone_and_in_a_batch(prompts):
    step = step_of("tfidf", "kernel", "characters").fit(prompts)
    features = step.transform(prompts)
    alone = step.transform(prompts[3:4])
    assert sp.issparse(alone) and alone.format == features.format and alone.dtype == features.dtype
    assert alone.toarray() == pytest.approx(features[[3]].toarray(), abs=1e-5)


def test_a_union_of_dense_features_is_dense(prompts):
    x = step_of("embedding", "kernel").fit(prompts).transform(prompts)
    assert isinstance(x, np.ndarray)
    assert len(x) == len(prompts)


def test_inner_products_of_kernel_features_equal_the_kernel(prompts):
    """All training prompts are components, so that the Nystroem approximation is exact."""
    inputs = [PooledEmbedding(), LayerMeans()]
    x = kernel_features(*inputs).fit(prompts).transform(prompts)
    distance = np.zeros((len(prompts), len(prompts)))
    for transformer, weight in zip(inputs, (1.0, 0.5), strict=True):
        features = transformer.fit(prompts).transform(prompts).astype(float)
        distance += weight * ((features[:, None] - features[None]) ** 2).sum(axis=2)
    assert x @ x.T == pytest.approx(2 * np.exp(-distance), abs=4e-3)


def test_kernel_features_equal_those_of_nystroem_of_scikit_learn():
    x = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    settings = {"gamma": 0.2, "n_components": 20, "random_state": 3}
    expected = Nystroem(**settings).fit(x).transform(x)
    fitted = GaussianKernelFeatures(**settings, variance=4.0).fit(x)
    assert fitted.transform(x) == pytest.approx(2 * expected, abs=1e-4)
    assert fitted.transform(x).dtype == np.float32
    assert fitted.transform(x[:1]).shape == (1, 20)


def test_more_components_than_training_prompts_are_reduced_without_a_warning():
    x = np.eye(6, dtype=np.float32)
    assert GaussianKernelFeatures(n_components=50).fit(x).transform(x).shape == (6, 6)


def test_clones_are_unfitted_and_have_separate_parameters(prompts):
    union = step_of("tfidf", "kernel").fit(prompts)
    fresh = clone(union)
    assert not hasattr(fresh.transformer_list[0][1], "vocabulary_")
    assert fresh.get_params()["kernel_2__kernel__gamma"] == GaussianKernelFeatures().gamma
    fresh.set_params(kernel_2__kernel__gamma=9.0, transformer_weights={"tfidf_1": 2.0})
    assert fresh.transformer_list[1][1][-1].gamma == 9.0
    assert union.transformer_list[1][1][-1].gamma != 9.0
    with pytest.raises(ValueError, match="Invalid parameter"):
        fresh.set_params(unknown=1)
