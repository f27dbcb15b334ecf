"""Tests of the encoder with a small BERT with random weights, saved by sentence-transformers."""

from pathlib import Path

import numpy as np
import pytest

from catimage.encoders.loading import load_encoder
from catimage.errors import InputError
from catimage.params import EncoderParams
from tests.encoders.concurrency import assert_threads_agree

pytest.importorskip("sentence_transformers")
VOCABULARY = ["a", "red", "blue", "circle", "square", "on", "grey", "the", "two", "small"]
CONTEXT = 8


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    path = tmp_path_factory.mktemp("bert")
    (path / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *VOCABULARY]) + "\n"
    )
    BertTokenizerFast(str(path / "vocab.txt"), model_max_length=CONTEXT).save_pretrained(
        path / "bert"
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=5 + len(VOCABULARY),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=CONTEXT,
        )
        BertModel(config).save_pretrained(path / "bert")
    transformer = Transformer(str(path / "bert"), max_seq_length=CONTEXT)
    SentenceTransformer(modules=[transformer, Pooling(16, "mean")], device="cpu").save(
        str(path / "model")
    )
    return path / "model"


@pytest.fixture(scope="session")
def encoder(folder):
    return load_encoder(EncoderParams(model=f"sentence-transformers:{folder}"))


PROMPTS = ["a red circle", "two small blue square on grey", "the " * 6, "the " * 7]


def test_prompts_are_truncated_and_pooled_embeddings_have_unit_length(encoder, folder):
    embedded = encoder.encode(PROMPTS)
    assert encoder.context == CONTEXT
    assert np.diff(embedded.offsets).tolist() == [5, 8, 8, 8]  # [CLS] and [SEP] count
    assert embedded.cut.tolist() == [False, False, False, True]
    assert np.linalg.norm(embedded.pooled, axis=1) == pytest.approx(np.ones(4), abs=1e-6)
    assert embedded.tokens.dtype == np.float16
    assert embedded.encoder == EncoderParams(model=f"sentence-transformers:{folder}").name


def test_pooled_embeddings_are_means_over_tokens_in_any_batch(encoder):
    together = encoder.encode(PROMPTS)
    for i, prompt in enumerate(PROMPTS):
        alone = encoder.encode([prompt])
        assert alone.pooled[0] == pytest.approx(together.pooled[i], abs=1e-5)
        mean = alone.tokens.astype(float).mean(axis=0)
        assert mean / np.linalg.norm(mean) == pytest.approx(alone.pooled[0], abs=2e-3)


def test_layers_are_means_of_the_hidden_states_over_the_tokens(encoder, folder):
    import torch
    from transformers import AutoModel, AutoTokenizer

    inner = (
        folder
        if (folder / "config.json").exists()
        else next(p.parent for p in folder.glob("*/config.json"))
    )
    model, tokenizer = AutoModel.from_pretrained(inner).eval(), AutoTokenizer.from_pretrained(inner)
    layers = encoder.encode(PROMPTS).layers
    assert layers.shape == (4, 3, 16)
    for prompt, means in zip(PROMPTS, layers, strict=True):
        tokens = tokenizer(prompt, return_tensors="pt", truncation=True, max_length=CONTEXT)
        with torch.inference_mode():
            states = model(**tokens, output_hidden_states=True).hidden_states
        assert means.astype(float) == pytest.approx(
            np.stack([s[0].mean(0) for s in states]), abs=2e-3
        )


def test_invalid_models_are_refused(folder, tmp_path):
    with pytest.raises(InputError, match="models cannot be selected"):
        load_encoder(EncoderParams(model=f"sentence-transformers:{folder}", weights="openai"))
    with pytest.raises(InputError, match=r"encoder\.model: folder .* not found"):
        load_encoder(EncoderParams(model=f"sentence-transformers:{tmp_path}/none"))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="cannot load"):
        load_encoder(EncoderParams(model=f"sentence-transformers:{tmp_path}"))


def test_concurrent_threads_get_the_embeddings_of_sequential_calls(encoder):
    assert_threads_agree(encoder, PROMPTS)
