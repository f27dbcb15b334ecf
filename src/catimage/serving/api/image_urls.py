"""URLs of images: signed, so that they need no key, and expiring."""

from __future__ import annotations

from dataclasses import dataclass

from itsdangerous import BadSignature, SignatureExpired, TimestampSigner

from catimage.serving.messages import ServingError

FILES = "/v1/images/files"
"""Path of the images."""
_SALT = b"catimage image url"


@dataclass(frozen=True)
class ImageLinks:
    """Makes and checks the URLs of stored images.

    Attributes:
        secret: key of the signatures.
        lifetime: seconds for which a URL is valid.
        base: the URL under which the client reached the service, without a slash at the end.
    """

    secret: bytes
    lifetime: float
    base: str = ""

    def url(self, token: str) -> str:
        """Return the URL of the image that is stored under ``token``."""
        return f"{self.base}{FILES}/{self._signer().sign(token).decode()}"

    def token(self, signed: str) -> str:
        """Return the token of a URL's last part.

        Raises:
            ServingError: the signature is invalid or has expired (404).
        """
        try:
            return self._signer().unsign(signed, max_age=int(self.lifetime)).decode()
        except SignatureExpired as error:
            message = "image: the URL has expired. Request the image again."
            raise ServingError(message, 404, "image_expired") from error
        except (BadSignature, UnicodeError) as error:
            raise unknown_image() from error

    def _signer(self) -> TimestampSigner:
        return TimestampSigner(self.secret, salt=_SALT)


def unknown_image() -> ServingError:
    """Return the error of a URL without an image."""
    message = "image: unknown or expired URL. Request the image again."
    return ServingError(message, 404, "image_not_found")
