"""Fast transformation of prompts, compared with scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from catimage.estimators.features.fast_transform import fast_transform

PROMPTS = [f"{a} {b} {c}" for a in "abc" for b in ("ring", "the the ring") for c in ("x", "Y-z")]
VECTORIZERS = [
    TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", dtype="f4"
    ),
    TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, dtype=np.float32),
    TfidfVectorizer(),
    TfidfVectorizer(norm="l1", binary=True),
]


@pytest.mark.parametrize("vectorizer", VECTORIZERS)
@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("abc ringthe-xyzZ", max_size=30), min_size=1, max_size=4))
def test_tfidf_features_are_those_of_scikit_learn(vectorizer, prompts):
    fitted = vectorizer.fit(PROMPTS)
    found, expected = fast_transform(fitted, prompts), fitted.transform(prompts)
    assert found.shape == expected.shape and found.dtype == expected.dtype
    np.testing.assert_allclose(found.toarray(), expected.toarray(), atol=1e-9)


def test_many_prompts_and_unfitted_vectorizers():
    fitted = TfidfVectorizer().fit(PROMPTS)
    many = PROMPTS * 64
    assert abs(fast_transform(fitted, many) - fitted.transform(many)).max() < 1e-9
    with pytest.raises(Exception, match="not fitted"):
        fast_transform(TfidfVectorizer(), ["a"])
