"""A miniature Stable Diffusion generator: batches, seeds, guidance and settings."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from catimage.errors import InputError
from catimage.pool.device_memory import DeviceMemory
from catimage.pool.generators.diffusion.generator import DiffusionGenerator
from catimage.pool.loading import load_pool
from catimage.pool.registry import kind_of
from catimage.pool.spec import Candidate
from tests.miniature import pool_tree

PROMPTS = ["a red ring", "an empty white wall", "two small stars on a blue background"]


@pytest.fixture(scope="module")
def generator(miniature_pool: Path) -> DiffusionGenerator:
    pool = load_pool(str(miniature_pool))
    loaded = kind_of(pool.generators["mini"], pool.folder).load(DeviceMemory("cpu"))
    assert isinstance(loaded, DiffusionGenerator)
    return loaded


def _candidate(steps: int, **settings: object) -> Candidate:
    return Candidate.model_validate(
        {"candidate": f"mini-{steps}", "generator": "mini", "steps": steps, **settings}
    )


def _generator(miniature_pool: Path, **changes: object) -> DiffusionGenerator:
    """Load the miniature generator with other settings."""
    spec = load_pool(str(miniature_pool)).generators["mini"].model_copy(update=changes)
    return DiffusionGenerator(spec, miniature_pool.parent, DeviceMemory("cpu"))


class InputRecorder:
    """Context manager that records the first input of each call of a module."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.inputs: list[torch.Tensor] = []
        self._hook = module.register_forward_pre_hook(self._record, with_kwargs=True)

    def _record(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.inputs.append((args[0] if args else kwargs["input_ids"]).detach().clone())

    def __enter__(self) -> "InputRecorder":
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()


def _largest_difference(a: np.ndarray, b: np.ndarray) -> int:
    """Return the largest difference between pixels of two images, in grey levels."""
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def test_one_image_is_generated_per_prompt_and_seed(generator: DiffusionGenerator):
    images = generator.generate(PROMPTS, _candidate(2), [0, 1, 2])
    assert images.shape == (3, 64, 64, 3)
    assert images.dtype == np.uint8
    assert _largest_difference(images[0], images[1]) > 50
    with pytest.raises(ValueError, match="3 prompts and 2 seeds"):
        generator.generate(PROMPTS, _candidate(2), [0, 1])


def test_the_initial_noise_depends_on_the_seed_only(
    generator: DiffusionGenerator,
):
    noise = []
    for prompts, steps, seeds in (
        (PROMPTS, 1, [3, 7, 5]),
        (PROMPTS[:2], 4, [7, 0]),
        (PROMPTS[2:], 2, [7]),
    ):
        with InputRecorder(generator.pipeline.unet) as recorder:
            generator.generate(prompts, _candidate(steps), seeds)
        assert len(recorder.inputs) == steps
        noise.append(recorder.inputs[0][seeds.index(7)])
    expected = torch.randn((6, 16, 16), generator=torch.Generator().manual_seed(7))
    for latents in noise:
        torch.testing.assert_close(latents, noise[0], rtol=0, atol=0)
        torch.testing.assert_close(latents / latents.std(), expected / expected.std())


def test_images_equal_those_of_the_pipeline_of_diffusers(
    generator: DiffusionGenerator, miniature_pool: Path
):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(miniature_pool.parent / "sd")
    expected = pipeline(
        PROMPTS[0],
        num_inference_steps=4,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(5),
    ).images[0]
    image = generator.generate([PROMPTS[1], PROMPTS[0]], _candidate(4), [9, 5])[1]
    assert _largest_difference(image, np.asarray(expected)) <= 1


def test_equal_batches_give_equal_images_and_other_batches_differ_by_rounding(
    generator: DiffusionGenerator,
):
    images = generator.generate(PROMPTS, _candidate(2), [0, 1, 2])
    assert (generator.generate(PROMPTS, _candidate(2), [0, 1, 2]) == images).all()
    assert (
        _largest_difference(generator.generate(PROMPTS[1:2], _candidate(2), [1])[0], images[1]) <= 1
    )


def test_text_is_encoded_once_per_prompt(generator: DiffusionGenerator):
    with InputRecorder(generator.pipeline.text_encoder) as recorder:
        encoded = generator.encode(PROMPTS * 2)
        for steps in (1, 2):
            generator.generate([PROMPTS[0]] * 2, _candidate(steps), [0, 1], encoded)
            generator.generate(PROMPTS[1:], _candidate(steps), [0, 1], encoded)
    assert sum(len(ids) for ids in recorder.inputs) == len(PROMPTS)
    assert (
        generator.generate([PROMPTS[0]] * 2, _candidate(1), [0, 1])
        == generator.generate([PROMPTS[0]] * 2, _candidate(1), [0, 1], encoded)
    ).mean() > 0.99


def test_a_step_takes_two_passes_with_guidance_and_one_pass_without_guidance(
    generator: DiffusionGenerator, miniature_pool: Path
):
    unguided = _generator(miniature_pool, guidance=1.0)
    for guided, rows in ((generator, 4), (unguided, 2)):
        with InputRecorder(guided.pipeline.unet) as recorder:
            guided.generate(PROMPTS[:2], _candidate(1), [0, 1])
        assert len(recorder.inputs[0]) == rows
    assert (
        _largest_difference(
            unguided.generate(PROMPTS[:1], _candidate(1), [0]),
            generator.generate(PROMPTS[:1], _candidate(1), [0]),
        )
        > 1
    )


def test_guidance_rescale_and_the_scheduler_of_the_pool_file_are_used(
    miniature_pool: Path, generator: DiffusionGenerator
):
    other = _generator(
        miniature_pool, guidance=100.0, guidance_rescale=1.0, scheduler="DDIMScheduler"
    )
    plain = _generator(miniature_pool, guidance=100.0, scheduler="DDIMScheduler")
    images = other.generate(PROMPTS[:1], _candidate(2), [0])
    assert type(other.pipeline.scheduler).__name__ == "DDIMScheduler"
    assert other.pipeline.scheduler.config.timestep_spacing == "trailing"
    assert _largest_difference(images, plain.generate(PROMPTS[:1], _candidate(2), [0])) > 1
    assert type(generator.pipeline.scheduler).__name__ == "EulerDiscreteScheduler"


def test_settings_of_a_candidate_override_the_generator_for_this_candidate_only(
    miniature_pool: Path, generator: DiffusionGenerator
):
    plain = generator.generate(PROMPTS[:1], _candidate(2), [0])
    for settings in (
        {"scheduler": "DDIMScheduler"},
        {"guidance": 9.0},
        {"scheduler_options": {"timestep_spacing": "leading"}},
    ):
        expected = _generator(miniature_pool, **settings).generate(PROMPTS[:1], _candidate(2), [0])
        assert (generator.generate(PROMPTS[:1], _candidate(2, **settings), [0]) == expected).all()
        assert _largest_difference(expected, plain) > 1
    assert (generator.generate(PROMPTS[:1], _candidate(2), [0]) == plain).all()


def test_loading_errors_give_a_one_line_message(tmp_path: Path, miniature_pool: Path):
    (tmp_path / "sd").mkdir()
    (tmp_path / "sd" / "model_index.json").write_text(
        '{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}'
    )
    path = tmp_path / "broken.yaml"
    path.write_text(yaml.safe_dump(pool_tree("sd")))
    pool = load_pool(str(path))
    with pytest.raises(
        InputError,
        match=r"broken\.yaml: generators\.mini\.weights: .*model_index\.json lacks the part vae",
    ) as caught:
        kind_of(pool.generators["mini"], pool.folder).load(DeviceMemory("cpu"))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="device 'unknown'"):
        kind_of(load_pool(str(miniature_pool)).generators["mini"], miniature_pool.parent).load(
            DeviceMemory("unknown")
        )
