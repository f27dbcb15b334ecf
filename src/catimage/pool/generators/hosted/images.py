"""Downloads and decodes the images in the responses of a hosted generator's server."""

from __future__ import annotations

import base64
import binascii
import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from catimage.common.pixels import rgb_pixels
from catimage.errors import error_summary
from catimage.pool.generators.hosted.spec import HostedSpec

_RETRIED_STATUS_CODES = (408, 429, 500, 502, 503, 504)


def decode_base64(spec: HostedSpec, request: str, text: str) -> bytes:
    """Decode base64 data of a response.

    Args:
        spec: the generator's settings in the pool file.
        request: description of the request, for error messages.
        text: base64 data.

    Raises:
        InputError: the data is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise spec.error(
            "base_url",
            f"the response of {spec.base_url} to {request} is not base64 ({error}). Check that the"
            " server has an API like OpenAI's.",
        ) from error


def download_image(spec: HostedSpec, request: str, url: str) -> bytes:
    """Download an image. The API key is not sent, since the URL may belong to another server.

    Args:
        spec: the generator's settings in the pool file.
        request: description of the request, for error messages.
        url: URL of the image.

    Raises:
        InputError: the download fails.
    """
    import urllib3

    retries = urllib3.Retry(
        spec.retries,
        backoff_factor=0.5,
        backoff_jitter=0.5,
        status_forcelist=_RETRIED_STATUS_CODES,
    )
    problem = f"cannot download the image of {request} from {url}"
    try:
        response = urllib3.request("GET", url, retries=retries, timeout=spec.timeout)
    except urllib3.exceptions.HTTPError as error:
        raise spec.error("base_url", f"{problem} ({error_summary(error)}). Retry later.") from error
    if response.status != 200:
        raise spec.error("base_url", f"{problem} (status {response.status}). Retry later.")
    return response.data


def decode_image(spec: HostedSpec, request: str, data: bytes) -> np.ndarray:
    """Decode an image file to a uint8 array of shape (size, size, 3), on a white background.

    Args:
        spec: the generator, with the size of its images.
        request: description of the request, for error messages.
        data: content of the file.

    Raises:
        InputError: the data is not a readable image, or the image does not have this size.
    """
    try:
        image = rgb_pixels(Image.open(io.BytesIO(data)))
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise spec.error(
            "base_url",
            f"the response of {spec.base_url} to {request} is not a readable image"
            f" ({error_summary(error)}). Check that the server has an API like OpenAI's.",
        ) from error
    height, width, _ = image.shape
    if (height, width) != (spec.size, spec.size):
        raise spec.error(
            "size",
            f"{spec.base_url} returned an image of {width}x{height} pixels, not"
            f" {spec.size}x{spec.size}, for {request}. Set a size that the model supports.",
        )
    return image
