"""A check that threads may share a text encoder."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from catimage.encoders.loading import TextEncoder


def assert_threads_agree(encoder: TextEncoder, prompts: list[str]) -> None:
    """Check that 200 calls in eight threads return the embeddings of sequential calls."""
    n = len(prompts)
    expected = [encoder.encode([prompt]) for prompt in prompts]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda i: encoder.encode([prompts[i % n]]), range(200)))
    for i, embedded in enumerate(found):
        np.testing.assert_allclose(embedded.pooled, expected[i % n].pooled, atol=1e-6)
        assert embedded.cut.tolist() == expected[i % n].cut.tolist()
