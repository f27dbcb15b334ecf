"""A miniature generator: images, identity, and errors for invalid folders."""

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


def _equal(a, b):
    """Return whether two images are equal up to rounding."""
    return np.abs(a.astype(int) - b.astype(int)).max() <= 1


def test_an_image_depends_on_its_prompt_and_seed_only(generator):
    images = generator.generate([*PROMPTS, PROMPTS[0]], _candidate(), [1, 1, 2])
    assert images.shape == (3, 32, 32, 3) and images.dtype == np.uint8
    for i, (prompt, seed) in enumerate(zip([*PROMPTS, PROMPTS[0]], [1, 1, 2], strict=True)):
        assert _equal(generator.generate([prompt], _candidate(), [seed])[0], images[i])
    assert not _equal(images[0], images[1]) and not _equal(images[0], images[2])


def test_prompts_encoded_in_advance_give_the_same_images(generator):
    encoded = generator.encode([*PROMPTS, *PROMPTS])
    assert len(encoded.states) == 2
    images = generator.generate(PROMPTS[1:], _candidate(), [4], encoded)
    assert _equal(images, generator.generate(PROMPTS[1:], _candidate(), [4]))


@pytest.mark.parametrize("other", [{"steps": 2}, {"guidance": 1.0}, {"temperature": 0.3}])
def test_settings_of_a_candidate_change_its_images(generator, other):
    plain, changed = (
        generator.generate(PROMPTS, c, [1, 2]) for c in (_candidate(), _candidate(**other))
    )
    assert not _equal(plain, changed)


def test_the_empty_prompt_is_not_used_without_guidance(folder):
    generator = kind_of(spec_of(guidance=1.0), folder).load(DeviceMemory("cpu"))
    before = generator.generate(PROMPTS, _candidate(), [1, 2])
    generator._empty = torch.full_like(generator._empty, torch.nan)
    assert np.array_equal(generator.generate(PROMPTS, _candidate(), [1, 2]), before)


def test_weights_are_loaded_as_saved_in_half_precision(folder):
    model = load_model(spec_of(), folder)
    for name, tensor in random_model().state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor.half().float()), name


def test_the_identity_depends_on_the_content_of_the_files(folder, tmp_path):
    spec = spec_of()
    copied = shutil.copytree(folder, tmp_path / "copy")
    assert kind_of(spec, copied).identity() == kind_of(spec, folder).identity()
    (copied / "sd" / "unet").mkdir()
    assert kind_of(spec, copied).identity() == kind_of(spec, folder).identity(), (
        "other parts of the pipeline must not affect the identity"
    )
    save_model(random_model(seed=1), copied / "bits")
    changed = kind_of(spec, copied).identity()
    assert {k for k, v in changed.items() if v != kind_of(spec, folder).identity()[k]} == {
        "weights"
    }
    definition = spec.definition(_candidate(temperature=0.5), changed)
    assert definition == {"kind": "next-scale", "size": 32, "temperature": 0.5, **changed}


def test_local_folders_are_those_of_the_model_and_the_text_encoder(folder, tmp_path):
    assert kind_of(spec_of(), folder).local_folders() == {
        "weights": folder / "bits",
        "text": folder / "sd",
    }
    assert kind_of(spec_of(), tmp_path).local_folders() == {}


def test_numbers_of_prompts_and_seeds_must_be_equal(generator):
    with pytest.raises(ValueError, match="2 prompts and 1 seeds"):
        generator.generate(PROMPTS, _candidate(), [1])


def _remove(path):
    """Return a function that removes a file or folder."""

    def change(folder):
        shutil.rmtree(folder / path) if (folder / path).is_dir() else (folder / path).unlink()

    return change


def _write(path, text):
    """Return a function that writes a file."""
    return lambda folder: (folder / path).write_text(text)


def _set(**change):
    """Return a function that changes the configuration."""
    return _write("bits/config.json", json.dumps(SHAPE.model_dump() | change))


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (
            _remove("bits"),
            {},
            r"weights: .*config\.json not found\. Set 'weights' to the folder of a next-scale",
        ),
        (
            _remove("bits/model.safetensors"),
            {},
            r"weights: .*model\.safetensors not found\. Copy it there, or train it",
        ),
        (_write("bits/config.json", "{"), {}, r"config\.json: the file: is not valid JSON\."),
        (_set(bits=0), {}, r"config\.json: bits: must be at least 1, not 0"),
        (_set(width=48), {}, r"does not match its config\.json \(.*size mismatch"),
        (
            _write("bits/model.safetensors", "no tensors"),
            {},
            r"does not match its config\.json",
        ),
        (_set(text_width=64), {}, r"size mismatch"),
        (
            _remove("sd/tokenizer"),
            {},
            r"text: folder .*tokenizer not found\. Set 'text' to the folder of a pipeline",
        ),
        (_remove("sd/text_encoder/model.safetensors"), {}, r"text: cannot load the text encoder"),
        (
            lambda folder: None,
            {"size": 64},
            r"size: the model in .* generates images of 32 pixels, not 64\. Set 'size' to 32\.",
        ),
    ],
)
def test_invalid_files_give_a_one_line_message(folder, tmp_path, change, settings, message):
    copied = shutil.copytree(folder, tmp_path / "copy")
    change(copied)
    with pytest.raises(InputError, match=message) as caught:
        kind_of(spec_of(**settings), copied).load(DeviceMemory("cpu"))
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_a_text_encoder_of_another_width_is_refused(folder, tmp_path):
    save_model(random_model(shape=SHAPE.model_copy(update={"text_width": 64})), tmp_path / "bits")
    shutil.copytree(folder / "sd", tmp_path / "sd")
    with pytest.raises(
        InputError, match="text: the text encoder has 128 channels, but the model requires 64"
    ):
        kind_of(spec_of(), tmp_path).load(DeviceMemory("cpu"))


@pytest.mark.parametrize(
    "call",
    [
        lambda spec, generator, folder, candidate: generator.generate(PROMPTS, candidate, [1, 2]),
        lambda spec, generator, folder, candidate: kind_of(spec, folder).prepare(
            [candidate], "cpu"
        ),
    ],
    ids=["generate", "prepare"],
)
def test_a_candidate_with_more_steps_than_scales_is_refused(generator, folder, call):
    call(spec_of(), generator, folder, _candidate(steps=3))
    with pytest.raises(
        InputError, match=r"'bits' has 4 steps, but the model has 3 scales\. Set 'steps' to 1 to 3"
    ):
        call(spec_of(), generator, folder, _candidate(steps=4))


def test_a_pool_file_with_a_next_scale_generator_is_read(folder):
    from catimage.pool.loading import load_pool

    generator = "{kind: next-scale, weights: bits, text: sd, size: 32}"
    rows = (
        "[{candidate: bits-3, generator: bits, steps: 3}, {candidate: bits-cool, generator: bits,"
        " steps: 3, temperature: 0.5}]"
    )
    (folder / "bits.yaml").write_text(
        f"name: bits\ngenerators: {{bits: {generator}}}\ncandidates: {rows}\n"
    )
    pool = load_pool(str(folder / "bits.yaml"))
    assert pool.generators["bits"].model_dump() == spec_of().model_dump()
    assert pool.generators["bits"].with_settings_of(pool.candidate("bits-cool")).temperature == 0.5
