"""Step hooks of the kinds of the tiny pool, and negative prompts of requests."""

import numpy as np
import pytest

from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.loading import load_pool
from catimage.pool.registry import generator_kinds, takes_negative_prompt
from catimage.pool.stepwise import GenerationStopped, has_step_hook

PROMPT = "two small red rings and a large blue square on a grey background"
STEPS = {"tiny-infinity": 6, "tiny-sd-2": 2, "tiny-ddim-8": 8}


@pytest.fixture(scope="module")
def cache():
    return GeneratorCache(load_pool("tiny"), "cpu", ["tiny-sd", "tiny-infinity"])


@pytest.mark.parametrize("name", STEPS)
def test_a_step_hook_sees_every_step_and_does_not_change_images(cache, name):
    candidate = cache.pool.candidate(name)
    generator = cache.get(candidate.generator)
    expected, steps = generator.generate([PROMPT] * 2, candidate, [7, 8]), []

    def on_step(step):
        steps.append((step.number, step.steps, step.decode([1])))

    images = generator.generate([PROMPT] * 2, candidate, [7, 8], on_step=on_step)
    np.testing.assert_array_equal(images, expected)
    count = STEPS[name]
    assert [step[:2] for step in steps] == [(i + 1, count) for i in range(count)]
    errors = [np.abs(step[2][0].astype(int) - expected[1]).mean() for step in steps]
    assert errors[-1] < 1 and errors[0] > errors[-1]


@pytest.mark.parametrize("name", [*STEPS, "tiny-deepcache-32"])
def test_a_generator_that_was_stopped_can_be_used_again(cache, name):
    candidate = cache.pool.candidate(name)
    generator = cache.get(candidate.generator)
    steps = []

    def stop(step):
        steps.append(step.number)
        if step.number == 2:
            raise GenerationStopped

    with pytest.raises(GenerationStopped):
        generator.generate([PROMPT], candidate, [7], on_step=stop)
    assert steps == [1, 2]
    again = generator.generate([PROMPT], candidate, [7])
    other = GeneratorCache(cache.pool, "cpu").get(candidate.generator)
    np.testing.assert_array_equal(again, other.generate([PROMPT], candidate, [7]))


def test_a_merged_encoding_gives_the_same_images(cache):
    for name in ("tiny-sd-2", "tiny-infinity"):
        candidate = cache.pool.candidate(name)
        generator = cache.get(candidate.generator)
        parts = [generator.encode(["a red ring"]), generator.encode(["a blue square", PROMPT])]
        prompts = [PROMPT, "a red ring"]
        merged = type(parts[0]).merge(parts)
        images = generator.generate(prompts, candidate, [1, 2], merged)
        expected = generator.generate(prompts, candidate, [1, 2])
        assert np.abs(images.astype(int) - expected).max() <= 1


def test_guided_candidates_of_diffusers_take_a_negative_prompt(cache):
    taken = {
        c.candidate for c in cache.pool.candidates if takes_negative_prompt(cache.pool, c.candidate)
    }
    others = {"tiny-turbo", "tiny-lightning", "tiny-infinity"}
    assert taken == {c.candidate for c in cache.pool.candidates} - others


def test_embeddings_of_few_negative_prompts_are_cached(cache):
    candidate, kind = cache.pool.candidate("tiny-sd-2"), generator_kinds(cache.pool)["tiny-sd"]
    generator = cache.get("tiny-sd")
    for i in range(70):
        changed = kind.with_negative_prompt(candidate, f"text {i}")
        generator._unconditional_embeddings(kind.spec.with_settings_of(changed))
    assert len(generator._unconditional) == 64
    assert "text 69" in repr(list(generator._unconditional))


def test_a_generator_of_another_package_may_have_no_step_hook(cache):
    class Other:
        def generate(self, prompts, candidate, seeds, encoded=None): ...

    assert not has_step_hook(Other()) and has_step_hook(cache.get("tiny-sd"))
