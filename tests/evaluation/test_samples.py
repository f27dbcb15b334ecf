import numpy as np
import pytest

from catimage.data.dataset import Candidates
from catimage.evaluation.samples import PromptResults, contrasting_prompts, data_uri, samples

PNG = b"\x89PNG\r\n\x1a\n and the rest"


def test_prompts_are_ordered_by_the_gain_of_the_expensive_candidate():
    predicted = np.array([[0.5, 0.9], [0.5, 0.1], [0.5, 0.6], [0.5, 0.5]])
    rows = contrasting_prompts(predicted, np.array([1.0, 2.0]), 3).tolist()
    assert rows in ([1, 3, 0], [1, 2, 0])
    assert contrasting_prompts(predicted, np.array([2.0, 1.0]), 9).tolist() == [0, 2, 3, 1]
    assert contrasting_prompts(predicted[:1], np.array([1.0, 2.0])).tolist() == [0]


def test_samples_span_the_costs_and_mark_the_routed_candidate():
    m = 20
    predicted = np.zeros((1, m))
    predicted[0, 5] = 1.0
    candidates = Candidates([f"c{i}" for i in range(m)], np.arange(1.0, m + 1), "s")
    results = PromptResults(["id"], ["p"], predicted, predicted + 2, candidates)
    (sample,) = samples(np.array([0]), results, np.array([5]), {("id", "c5"): PNG})
    names = [cell.candidate for cell in sample.cells]
    assert names[0] == "c0"
    assert names[-1] == "c19"
    assert 8 <= len(names) <= 9
    assert names == sorted(names, key=lambda n: int(n[1:]))
    (routed,) = [cell for cell in sample.cells if cell.is_routed]
    assert routed.candidate == "c5"
    assert routed.image == data_uri(PNG)
    assert routed.predicted == 1
    assert routed.measured == 3


@pytest.mark.parametrize(
    ("image", "kind"), [(PNG, "png"), (b"RIFF....WEBPVP8L", "webp"), (b"\xff\xd8\xff", "jpeg")]
)
def test_a_data_uri_names_the_format(image, kind):
    assert data_uri(image).startswith(f"data:image/{kind};base64,")
    assert data_uri(None) == ""
