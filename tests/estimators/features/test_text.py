import numpy as np
import pytest

from catimage.encoders.loading import load_encoder
from catimage.estimators.features.text import LayerMeans
from catimage.params import EncoderParams


def test_the_projection_of_standardised_layers_preserves_inner_products(prompts):
    encoded = load_encoder(EncoderParams()).encode(list(prompts))
    means = encoded.layers.reshape(len(prompts), -1).astype(float)
    z = (means - means.mean(axis=0)) / np.maximum(means.std(axis=0), 1e-6)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    x = LayerMeans().fit(prompts).transform(prompts)
    assert x @ x.T == pytest.approx(z @ z.T, abs=5e-3)
    assert LayerMeans(width=3).fit(prompts).transform(prompts[:4]).shape == (4, 3)
