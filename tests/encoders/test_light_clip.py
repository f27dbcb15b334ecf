"""The CLIP text encoder without torch, compared with that of open_clip."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from scipy.special import ndtr

from catimage.encoders import cache
from catimage.encoders.light_clip import TINY, LightClipEncoder, _gelu, light_folder
from catimage.encoders.open_clip import OpenClipEncoder
from catimage.errors import InputError
from catimage.params import EncoderParams
from catimage.scenes.grammar import sample_scene
from tests.encoders.concurrency import assert_threads_agree

UNUSUAL = [
    "",
    "\x07",
    "Ωμέγα 漢字 🙂 it's we'll",
    "  tabs\tand\nlines ",
    "Tom &amp; Jerry &#39;99&#39;",
    "a <|endoftext|> b <|startoftext|> c",
    "red " * 100,
    "a" * 5000,
]


@pytest.fixture(scope="module")
def light():
    return LightClipEncoder(EncoderParams(), TINY)


def test_the_embeddings_are_those_of_open_clip(light):
    rng = np.random.default_rng(0)
    prompts = [sample_scene(rng).caption() for _ in range(100)] + UNUSUAL
    found, expected = light.encode(prompts), OpenClipEncoder(EncoderParams()).encode(prompts)
    np.testing.assert_allclose(found.pooled, expected.pooled, atol=1e-6)
    for name in ("layers", "tokens"):
        a, b = (getattr(e, name).astype(float) for e in (found, expected))
        np.testing.assert_allclose(a, b, atol=2e-3 * np.abs(b).max())
    assert found.offsets.tolist() == expected.offsets.tolist()
    assert found.cut.tolist() == expected.cut.tolist() and 1 < found.truncated < len(UNUSUAL)
    assert found.prompt_ids == expected.prompt_ids
    assert (found.pooled.dtype, found.tokens.dtype) == (np.float32, np.float16)


def test_the_activation_is_the_gaussian_error_linear_unit():
    x = np.concatenate([np.linspace(-12, 12, 20_001), [-1e4, -40, 40, 1e4], [0.0] * 5])
    found = _gelu(x.reshape(-1, 10).astype(np.float32)).ravel()
    np.testing.assert_allclose(found, x * ndtr(x), rtol=2e-7, atol=8e-7)
    assert found[-7:].tolist() == [40.0, 1e4, 0.0, 0.0, 0.0, 0.0, 0.0]


def test_an_embedding_does_not_depend_on_the_batch_and_threads_share_the_encoder(light):
    together = light.encode([*UNUSUAL, "a red ring"])
    np.testing.assert_allclose(together.pooled[-1:], light.encode(["a red ring"]).pooled, atol=1e-6)
    assert_threads_agree(light, [*UNUSUAL, "a red ring"])


@pytest.mark.parametrize(
    "model",
    ["ViT-B-32", "hf-hub:some/model", "sentence-transformers:tiny", "local-dir:/missing"],
)
def test_other_models_are_left_to_their_libraries(model):
    assert light_folder(EncoderParams(model=model)) is None


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("model_cfg", {"quick_gelu": True}),
        ("text_cfg", {"pool_type": "eos"}),
        ("text_cfg", {"tokenizer_mode": "clips"}),
    ],
)
def test_a_model_with_other_settings_is_left_to_open_clip(tmp_path, section, change):
    folder = shutil.copytree(TINY, tmp_path / "clip")
    assert light_folder(EncoderParams(model=f"local-dir:{folder}")) == folder
    config = json.loads((folder / "open_clip_config.json").read_text())
    model = config["model_cfg"]
    (model if section == "model_cfg" else model[section]).update(change)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    assert light_folder(EncoderParams(model=f"local-dir:{folder}")) is None


def test_damaged_weights_are_refused(tmp_path):
    folder = shutil.copytree(TINY, tmp_path / "clip")
    (folder / "open_clip_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match="open_clip_model"):
        LightClipEncoder(EncoderParams(), folder)


def test_a_server_loads_it_without_torch():
    code = (
        "import sys; from catimage.params import EncoderParams as E;"
        "from catimage.encoders.cache import cached_encoder, prefer_light_encoder as light;"
        "light(E()); print(cached_encoder(E()).encode(['a ring']).pooled.shape,"
        " sorted({'torch', 'open_clip', 'transformers'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "(1, 128) []"


def test_it_is_used_only_on_request(monkeypatch):
    spec = EncoderParams(model=f"local-dir:{TINY}")
    loaded = []
    monkeypatch.setattr(cache, "load_encoder", lambda s: loaded.append(s) or OpenClipEncoder(s))
    monkeypatch.setattr(cache, "_LIGHT", set())
    cache._cached_encoder.cache_clear()
    cache.cached_encoder(spec)
    cache._cached_encoder.cache_clear()
    cache.prefer_light_encoder(spec)
    assert isinstance(cache.cached_encoder(spec)._encoder, LightClipEncoder)
    cache._cached_encoder.cache_clear()
    assert loaded == [spec]
