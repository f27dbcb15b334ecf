"""A miniature generator from its folder to pixels, and what is said where the folder is not right."""

import json
import shutil

import numpy as np
import pytest
import torch

from catimage.errors import InputError
from catimage.pool.device_memory import DeviceMemory
from catimage.pool.generators.next_scale.weights import load_model, save_model
from catimage.pool.registry import kind_of
from catimage.pool.spec import Candidate
from tests.pool.generators.next_scale.miniature import SHAPE, random_model, spec_of

PROMPTS = [
    "a red moon on a plain blue background",
    "two small green stars on a plain grey background",
]


@pytest.fixture(scope="module")
def generator(folder):
    return kind_of(spec_of(), folder).load(DeviceMemory("cpu"))


def _candidate(steps=3, **settings):
    return Candidate(candidate="bits", generator="mini", steps=steps, **settings)


def _nearly(a, b):
    """The same but for rounding."""
    return np.abs(a.astype(int) - b.astype(int)).max() <= 1


def test_an_image_depends_on_its_prompt_and_seed_and_on_nothing_else(generator):
    batch = generator.generate([*PROMPTS, PROMPTS[0]], _candidate(), [1, 1, 2])
    assert batch.shape == (3, 32, 32, 3) and batch.dtype == np.uint8
    for i, (prompt, seed) in enumerate(zip([*PROMPTS, PROMPTS[0]], [1, 1, 2], strict=True)):
        assert _nearly(generator.generate([prompt], _candidate(), [seed])[0], batch[i])
    assert not _nearly(batch[0], batch[1]) and not _nearly(batch[0], batch[2])


def test_prompts_encoded_beforehand_give_the_same(generator):
    encoded = generator.encode([*PROMPTS, *PROMPTS])
    assert len(encoded.states) == 2
    again = generator.generate(PROMPTS[1:], _candidate(), [4], encoded)
    assert _nearly(again, generator.generate(PROMPTS[1:], _candidate(), [4]))


@pytest.mark.parametrize("other", [{"steps": 2}, {"guidance": 1.0}, {"temperature": 0.3}])
def test_what_a_candidate_sets_changes_its_images(generator, other):
    plain, changed = (
        generator.generate(PROMPTS, c, [1, 2]) for c in (_candidate(), _candidate(**other))
    )
    assert not _nearly(plain, changed)


def test_guidance_of_one_needs_no_empty_prompt(folder):
    generator = kind_of(spec_of(guidance=1.0), folder).load(DeviceMemory("cpu"))
    before = generator.generate(PROMPTS, _candidate(), [1, 2])
    generator._nothing = torch.full_like(generator._nothing, torch.nan)
    assert np.array_equal(generator.generate(PROMPTS, _candidate(), [1, 2]), before)


def test_weights_come_back_as_half_precision_has_them(folder):
    model = load_model(spec_of(), folder)
    for name, tensor in random_model().state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor.half().float()), name


def test_identity_is_that_of_the_content(folder, tmp_path):
    spec = spec_of()
    copied = shutil.copytree(folder, tmp_path / "copy")
    assert kind_of(spec, copied).identity() == kind_of(spec, folder).identity()
    (copied / "sd" / "unet").mkdir()
    assert kind_of(spec, copied).identity() == kind_of(spec, folder).identity(), (
        "other parts of the pipeline have no say"
    )
    save_model(random_model(seed=1), copied / "bits")
    changed = kind_of(spec, copied).identity()
    assert {k for k, v in changed.items() if v != kind_of(spec, folder).identity()[k]} == {
        "weights"
    }
    definition = spec.definition(_candidate(temperature=0.5), changed)
    assert definition == {"kind": "next-scale", "size": 32, "temperature": 0.5, **changed}


def test_local_folders(folder, tmp_path):
    assert kind_of(spec_of(), folder).local_folders() == {
        "weights": folder / "bits",
        "text": folder / "sd",
    }
    assert kind_of(spec_of(), tmp_path).local_folders() == {}


def test_a_seed_a_prompt(generator):
    with pytest.raises(ValueError, match="2 prompts and 1 seeds"):
        generator.generate(PROMPTS, _candidate(), [1])


def _without(path):
    def change(folder):
        shutil.rmtree(folder / path) if (folder / path).is_dir() else (folder / path).unlink()

    return change


def _write(path, text):
    return lambda folder: (folder / path).write_text(text)


def _with(**change):
    return _write("bits/config.json", json.dumps(SHAPE.model_dump() | change))


@pytest.mark.parametrize(
    ("change", "settings", "told"),
    [
        (_without("bits"), {}, r"weights: there is no file .*config\.json; name the folder"),
        (
            _without("bits/model.safetensors"),
            {},
            r"weights: there is no file .*model\.safetensors; train it",
        ),
        (_write("bits/config.json", "{"), {}, r"config\.json: the whole: invalid JSON"),
        (_with(bits=0), {}, r"config\.json: bits: input should be greater than or equal to 1"),
        (_with(width=48), {}, r"does not hold the model of its config\.json: .*size mismatch"),
        (
            _write("bits/model.safetensors", "no tensors"),
            {},
            r"does not hold the model of its config\.json",
        ),
        (_with(text_width=64), {}, r"size mismatch"),
        (
            _without("sd/tokenizer"),
            {},
            r"text: there is no folder .*tokenizer; name the folder of a pipeline",
        ),
        (_without("sd/text_encoder/model.safetensors"), {}, r"text: cannot load the text encoder"),
        (
            lambda folder: None,
            {"size": 64},
            r"size: the model in .* makes images of 32 pixels, not 64; write 32\.",
        ),
    ],
)
def test_what_is_not_right_is_told_in_one_sentence(folder, tmp_path, change, settings, told):
    copied = shutil.copytree(folder, tmp_path / "copy")
    change(copied)
    with pytest.raises(InputError, match=told) as caught:
        kind_of(spec_of(**settings), copied).load(DeviceMemory("cpu"))
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_a_text_encoder_of_another_width(folder, tmp_path):
    save_model(random_model(shape=SHAPE.model_copy(update={"text_width": 64})), tmp_path / "bits")
    shutil.copytree(folder / "sd", tmp_path / "sd")
    with pytest.raises(
        InputError, match="text: its text encoder has 128 channels, but the model reads 64"
    ):
        kind_of(spec_of(), tmp_path).load(DeviceMemory("cpu"))


@pytest.mark.parametrize(
    "ask",
    [
        lambda s, g, f, c: g.generate(PROMPTS, c, [1, 2]),
        lambda s, g, f, c: kind_of(s, f).prepare([c], "cpu"),
    ],
)
def test_more_steps_than_scales(generator, folder, ask):
    ask(spec_of(), generator, folder, _candidate(steps=3))
    with pytest.raises(
        InputError, match="'bits' has 4 steps, but the model has 3 scales; write 1 to 3"
    ):
        ask(spec_of(), generator, folder, _candidate(steps=4))


def test_a_pool_names_it_by_its_kind(folder):
    from catimage.pool.loading import load_pool

    generator = "{kind: next-scale, weights: bits, text: sd, size: 32}"
    rows = (
        "[{candidate: bits-3, generator: bits, steps: 3}, {candidate: bits-cold, generator: bits,"
        " steps: 3, temperature: 0.5}]"
    )
    (folder / "bits.yaml").write_text(
        f"name: bits\ngenerators: {{bits: {generator}}}\ncandidates: {rows}\n"
    )
    pool = load_pool(str(folder / "bits.yaml"))
    assert pool.generators["bits"].model_dump() == spec_of().model_dump()
    assert pool.generators["bits"].with_settings_of(pool.candidate("bits-cold")).temperature == 0.5
