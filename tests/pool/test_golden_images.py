"""A change of a kind's code either changes its images, or is declared not to change them."""

import json

import numpy as np
import pytest

from catimage.pool.image_code import image_code
from tests.pool.golden import images


def equal(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether images are equal but for rounding: at most 1% differ by more than a level."""
    difference = np.abs(a.astype(int) - b.astype(int))
    return bool((difference > 1).mean() <= 0.01)


@pytest.mark.parametrize("kind", images.CANDIDATES)
def test_the_code_of_a_kind_generates_its_golden_images(kind):
    recorded = json.loads(images.CODE.read_text())[kind]
    current = image_code(kind)["code"]
    golden, generated = images.read(kind), images.generate(kind)
    changed = [name for name in golden if not equal(golden[name], generated[name])]
    if current == recorded:
        assert changed == [], f"{kind}: the code is unchanged, but the images of {changed} differ"
        return
    assert changed, (
        f"The code of the kind {kind!r} has changed, and its images have not. If the change never"
        f' changes images, add "{current}": "{recorded}" to the section "code", key "{kind}", of'
        " src/catimage/pool/equivalent_code.json; CONTRIBUTING.md explains this."
    )
    pytest.fail(
        f"The code and the images of the kind {kind!r} have changed ({changed}). If this is"
        " intended, run python -m tests.pool.golden.images; users then generate images again."
    )


def test_images_that_differ_by_rounding_are_equal_and_others_are_not():
    image = np.full((8, 8, 3), 100, np.uint8)
    assert equal(image, image + 1) and not equal(image, image + 2)
    golden = images.read("diffusers")
    assert not equal(golden["tiny-turbo"], golden["tiny-lightning"])
