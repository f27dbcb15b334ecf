"""Pixels of image files with transparency, an orientation, or more than 8 bits."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from catimage.common.pixels import is_plain, rgb_pixels


def _reopened(image: Image.Image, image_format: str = "PNG", **options: object) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return Image.open(io.BytesIO(buffer.getvalue()))


def _disc(background: tuple[int, int, int, int]) -> Image.Image:
    image = Image.new("RGBA", (32, 32), background)
    ImageDraw.Draw(image).ellipse((8, 8, 24, 24), fill=(255, 0, 0, 255))
    return image


ON_WHITE = np.asarray(_disc((255, 255, 255, 255)).convert("RGB"))


@pytest.mark.parametrize("transparent", [(0, 0, 0, 0), (0, 255, 0, 0)])
def test_transparent_pixels_are_white_whatever_their_hidden_colour(
    transparent: tuple[int, int, int, int],
):
    image = _reopened(_disc(transparent))
    assert not is_plain(image)
    np.testing.assert_array_equal(rgb_pixels(image), ON_WHITE)
    np.testing.assert_array_equal(
        rgb_pixels(_reopened(_disc(transparent), "WEBP", lossless=True)), ON_WHITE
    )


def test_half_transparent_pixels_are_blended_with_white():
    image = _reopened(Image.new("RGBA", (2, 2), (0, 0, 255, 128)))
    assert rgb_pixels(image)[0, 0].tolist() == pytest.approx([127, 127, 255], abs=1)
    grey = _reopened(Image.new("LA", (2, 2), (0, 51)))
    assert rgb_pixels(grey)[0, 0].tolist() == [204, 204, 204]


def test_a_transparent_entry_of_a_palette_is_white():
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.putpixel((1, 0), 1)
    image = _reopened(palette, transparency=0)
    assert image.mode == "P" and not is_plain(image)
    assert rgb_pixels(image).tolist() == [[[255, 255, 255], [0, 255, 0]]]
    opaque = _reopened(palette)
    assert is_plain(opaque)
    assert rgb_pixels(opaque).tolist() == [[[255, 0, 0], [0, 255, 0]]]


def test_the_orientation_is_applied():
    image = Image.new("RGB", (20, 10), "white")
    image.paste((255, 0, 0), (0, 0, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the left side of the data is the top of the image
    rotated = _reopened(image, "PNG", exif=exif)
    assert not is_plain(rotated)
    pixels = rgb_pixels(rotated)
    assert pixels.shape == (20, 10, 3)
    assert pixels[0, 0].tolist() == [255, 0, 0] and pixels[-1, 0].tolist() == [255, 255, 255]


def test_grey_levels_of_16_bits_are_scaled():
    levels = np.array([[0, 257 * 100, 65535]], np.uint16)
    image = _reopened(Image.fromarray(levels))
    assert rgb_pixels(image)[0, :, 0].tolist() == [0, 100, 255] and not is_plain(image)


def test_cmyk_is_converted_and_floating_point_pixels_are_refused():
    assert rgb_pixels(_reopened(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "JPEG")).min() > 250
    with pytest.raises(ValueError, match="floating-point"):
        rgb_pixels(Image.new("F", (2, 2), 0.5))


def test_ordinary_images_are_unchanged():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    image = _reopened(Image.fromarray(pixels))
    assert is_plain(image)
    np.testing.assert_array_equal(rgb_pixels(image), pixels)
