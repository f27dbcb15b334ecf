import json

import numpy as np
import pytest

from catimage.scenes.grammar import sample_scene
from catimage_tiny.text_tokenizer import CONTEXT_LENGTH, END, train_text_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    from transformers import CLIPTokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    train_text_tokenizer(folder, captions=2000)
    vocabulary = json.loads((folder / "vocab.json").read_text())
    assert (
        max(vocabulary, key=vocabulary.get) == END
    )  # open_clip uses the position of the largest id
    return CLIPTokenizer.from_pretrained(folder)


def test_captions_fit_the_context_with_about_one_token_per_word(tokenizer):
    rng = np.random.default_rng(5)
    for _ in range(200):
        caption = sample_scene(rng, "crowded").caption()
        ids = tokenizer(caption).input_ids
        assert (
            len(ids) <= CONTEXT_LENGTH
            and len(ids) <= 1.3 * len(caption.replace(",", " ,").split()) + 2
        )


@pytest.mark.parametrize("text", ["a photo of a café", "東京 at night 🐱", "x" * 500, "$%&/()="])
def test_every_text_has_an_encoding(tokenizer, text):
    ids = tokenizer(text).input_ids
    assert len(ids) > 2 and tokenizer.decode(ids, skip_special_tokens=True).replace(
        " ", ""
    ) == text.replace(" ", "")
