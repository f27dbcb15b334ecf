import json

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from catimage.data.prompts.identity import prompt_id
from catimage.encoders.loading import load_encoder
from catimage.encoders.open_clip import BATCH_SIZE, check_open_clip_name
from catimage.errors import InputError
from catimage.params import EncoderParams
from tests.encoders.concurrency import assert_threads_agree
from tests.miniature import save_clip_folder

PROMPTS = [
    "an empty white wall",
    "two small red rings and a large blue square on a grey background",
    "x",
]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return f"local-dir:{save_clip_folder(tmp_path_factory.mktemp('clip'))}"


@pytest.fixture(scope="module")
def model(source):
    return open_clip.create_model(source).eval()


@pytest.fixture(scope="module")
def encoder(source):
    return load_encoder(EncoderParams(model=source))


@torch.inference_mode()
def test_pooled_embeddings_equal_those_of_open_clip(source, model, encoder):
    expected = model.encode_text(open_clip.get_tokenizer(source)(PROMPTS), normalize=True).numpy()
    pooled = encoder.encode(PROMPTS).pooled
    assert pooled.dtype == np.float32
    np.testing.assert_allclose(pooled, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(pooled, axis=1), 1, atol=1e-6)


@torch.inference_mode()
def test_token_embeddings_are_the_last_hidden_states_without_padding(source, model, encoder):
    recorded = []
    hook = model.ln_final.register_forward_hook(lambda *call: recorded.append(call[-1]))
    tokenizer = open_clip.get_tokenizer(source)
    model.encode_text(tokenizer(PROMPTS))
    hook.remove()
    lengths = [len(tokenizer.tokenizer(p).input_ids) for p in PROMPTS]
    embedded = encoder.encode(PROMPTS)
    assert np.diff(embedded.offsets).tolist() == lengths
    expected = np.concatenate(
        [states[:n].numpy() for states, n in zip(recorded[0], lengths, strict=True)]
    )
    np.testing.assert_allclose(embedded.tokens, expected, atol=2e-3 * np.abs(expected).max())
    assert embedded.tokens.dtype == np.float16


@torch.inference_mode()
def test_layers_are_means_over_tokens_of_the_inputs_and_outputs_of_the_layers(
    source, model, encoder
):
    recorded = [[] for _ in range(1 + len(model.transformer.resblocks))]
    hooks = [
        model.transformer.resblocks[0].register_forward_pre_hook(
            lambda _, call: recorded[0].append(call[0])
        )
    ]
    for block, into in zip(model.transformer.resblocks, recorded[1:], strict=True):
        hooks.append(block.register_forward_hook(lambda *call, into=into: into.append(call[-1])))
    tokenizer = open_clip.get_tokenizer(source)
    model.encode_text(tokenizer(PROMPTS))
    for hook in hooks:
        hook.remove()
    lengths = [len(tokenizer.tokenizer(p).input_ids) for p in PROMPTS]
    expected = np.stack(
        [[s[0][i, :n].mean(0).numpy() for s in recorded] for i, n in enumerate(lengths)]
    )
    layers = encoder.encode(PROMPTS).layers
    assert layers.shape == expected.shape
    np.testing.assert_allclose(layers, expected, atol=2e-3 * np.abs(expected).max())


def test_an_embedding_does_not_depend_on_the_other_prompts_of_a_batch(encoder):
    many = [f"{p} number {i}" for i in range(BATCH_SIZE // 2) for p in PROMPTS]
    together, alone = encoder.encode(many), encoder.encode(many[-1:])
    assert len(together) == len(many) > BATCH_SIZE
    np.testing.assert_allclose(together.pooled[-1:], alone.pooled, atol=1e-6)
    np.testing.assert_allclose(together.tokens[together.offsets[-2] :], alone.tokens, atol=4e-3)
    assert together.prompt_ids == [prompt_id(p) for p in many]


def test_prompts_longer_than_the_context_are_truncated_and_marked(encoder, source):
    tokenizer = open_clip.get_tokenizer(source)
    tokens = ["red"] * (encoder.context - 2)
    full, longer = " ".join(tokens), " ".join([*tokens, "blue"])
    assert len(tokenizer.tokenizer(full).input_ids) == encoder.context
    embedded = encoder.encode([full, longer, "red"])
    assert embedded.cut.tolist() == [False, True, False]
    assert embedded.truncated == 1
    assert np.diff(embedded.offsets).tolist() == [encoder.context, encoder.context, 3]
    np.testing.assert_array_equal(embedded.pooled[0], embedded.pooled[1])


def test_unusual_text_has_a_finite_embedding(encoder):
    embedded = encoder.encode(["Ωμέγα 漢字 🙂", "", "\x07", "a" * 99_999])
    assert np.isfinite(embedded.pooled).all()
    assert np.isfinite(embedded.tokens.astype(float)).all()


def test_a_prompt_is_encoded_in_one_forward_pass_without_padding(encoder, monkeypatch):
    shapes = []
    transformer = encoder._text.transformer
    forward = transformer.forward_intermediates
    monkeypatch.setattr(
        transformer,
        "forward_intermediates",
        lambda x, **k: shapes.append(tuple(x.shape[:2])) or forward(x, **k),
    )
    length = len(encoder.encode(["an empty white wall"]).tokens)
    assert shapes == [(1, length)]
    assert length < encoder.context


@torch.inference_mode()
def test_embeddings_of_custom_text_models_equal_those_of_open_clip(tmp_path):
    """The CustomTextCLIP models of open_clip have a separate text module, which pools at the token
    ``eos_id``.
    """
    save_clip_folder(tmp_path)
    path, weights = tmp_path / "open_clip_config.json", tmp_path / "open_clip_model.safetensors"
    config = json.loads(path.read_text())
    config["model_cfg"]["custom_text"] = True
    config["model_cfg"]["text_cfg"] |= {
        "pool_type": "eos",
        "eos_id": config["model_cfg"]["text_cfg"]["vocab_size"] - 1,
        "proj_bias": True,
    }
    path.write_text(json.dumps(config))
    model = open_clip.create_model(f"local-dir:{tmp_path}", load_weights=False).eval()
    save_file(model.state_dict(), weights)
    ids = open_clip.get_tokenizer(f"local-dir:{tmp_path}")(PROMPTS)
    pooled = load_encoder(EncoderParams(model=f"local-dir:{tmp_path}")).encode(PROMPTS).pooled
    np.testing.assert_allclose(pooled, model.encode_text(ids, normalize=True).numpy(), atol=1e-6)


def test_an_unknown_model_is_refused():
    with pytest.raises(
        InputError, match=r"open_clip has no model 'ViT-B-23' \(did you mean 'ViT-B-32'\?\)"
    ):
        load_encoder(EncoderParams(model="ViT-B-23"))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("", "encoder.weights: '' is neither"),
        ("laion2b_s34b_b79", "did you mean 'laion2b_s34b_b79k'"),
    ],
)
def test_unknown_weights_are_refused(weights, message):
    with pytest.raises(InputError, match=message):
        load_encoder(EncoderParams(model="ViT-B-32", weights=weights))


@pytest.mark.parametrize(
    ("model", "weights"),
    [("ViT-B-32", "openai"), ("ViT-L-14", "dfn2b"), ("RN50", "yfcc15m")],
)
def test_weights_that_were_trained_with_another_activation_are_refused(model, weights):
    """open_clip loads these weights into the model, whose embeddings are then wrong."""
    with pytest.raises(InputError, match=rf"encoder\.model: .*QuickGELU.*to '{model}-quickgelu'"):
        load_encoder(EncoderParams(model=model, weights=weights))
    check_open_clip_name(EncoderParams(model=f"{model}-quickgelu", weights=weights))


@pytest.mark.parametrize(
    ("model", "weights"),
    [("ViT-B-32", "laion2b_s34b_b79k"), ("roberta-ViT-B-32", "laion2b_s12b_b32k")],
)
def test_weights_of_the_same_activation_are_accepted(model, weights):
    check_open_clip_name(EncoderParams(model=model, weights=weights))


@pytest.mark.parametrize(
    "missing", [None, "open_clip_config.json", "open_clip_model.safetensors", "vocab.json"]
)
def test_a_folder_without_a_required_file_is_refused(tmp_path, missing):
    if missing:
        save_clip_folder(tmp_path)
        (tmp_path / missing).unlink()
    with pytest.raises(InputError, match=r"encoder: cannot load local-dir:.*Check encoder.model"):
        load_encoder(EncoderParams(model=f"local-dir:{tmp_path if missing else tmp_path / 'none'}"))


def test_a_damaged_weights_file_is_refused(tmp_path):
    (save_clip_folder(tmp_path) / "open_clip_model.safetensors").write_bytes(b"not weights")
    with pytest.raises(InputError, match=r"safetensors: the file is damaged"):
        load_encoder(EncoderParams(model=f"local-dir:{tmp_path}"))


def test_a_text_encoder_that_does_not_pool_at_the_end_token_is_refused(tmp_path):
    save_clip_folder(tmp_path)
    path = tmp_path / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["text_cfg"]["pool_type"] = "last"
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match="does not pool at an end token"):
        load_encoder(EncoderParams(model=f"local-dir:{tmp_path}"))


def test_a_revision_that_cannot_be_downloaded_is_refused():
    with pytest.raises(InputError, match="cannot download hf-hub:nobody/nothing at revision 'abc'"):
        load_encoder(EncoderParams(model="hf-hub:nobody/nothing", revision="abc"))


def test_truncated_token_ids_equal_those_of_the_tokenizer(encoder, source):
    prompts = ["red", "red " * (encoder.context - 2), "red " * encoder.context, "blue " * 500]
    expected = open_clip.get_tokenizer(source)(prompts)
    ids, lengths, truncated = encoder._tokenize(prompts)
    assert torch.equal(ids, expected[:, : ids.shape[1]])
    assert lengths.tolist() == [3, encoder.context, encoder.context, encoder.context]
    assert truncated.tolist() == [False, False, True, True]


def test_concurrent_threads_get_the_embeddings_of_sequential_calls(encoder):
    prompts = [f"{'red ' * n}circle" for n in (1, 20, encoder.context - 3, encoder.context, 200)]
    assert_threads_agree(encoder, prompts)
