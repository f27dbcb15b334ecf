"""Ids of repositories on the Hugging Face hub, and messages for failed downloads."""

from __future__ import annotations

from catimage.errors import error_summary

_NO_SAFETENSORS = "necessary `safetensors` weights"
"""Part of the message of an error of diffusers that has no exception class of its own."""


def is_hub_id(source: str) -> bool:
    """Return whether a text has the form of the id of a hub repository, ``OWNER/NAME`` or ``NAME``.

    A path such as ``./models/sdxl`` or ``C:\\models`` does not have it.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(source)
    except HFValidationError:
        return False
    return True


def hub_error_message(error: Exception, repository: str, revision: str) -> str:
    """Return the problem and its fix for an error of huggingface_hub or diffusers.

    Args:
        error: the exception that the download raised.
        repository: id of the repository on the hub, such as ``owner/name``.
        revision: the requested git revision.
    """
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return (
            f"{repository!r} is gated. Accept its terms on its page of the hub, and set HF_TOKEN to"
            " a token of the account that accepted them."
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"the hub has no {repository!r}, or it is private. Correct the name, or set HF_TOKEN to"
            " a token with access to it."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repository!r} has no revision {revision!r}. Set another 'revision'."
    if isinstance(error, errors.RemoteEntryNotFoundError):
        problem = f"{repository!r} lacks a file at revision {revision!r} ({error_summary(error)})"
        return f"{problem}. Correct the file's name, or set another 'revision'."
    if isinstance(error, errors.LocalEntryNotFoundError):
        return (
            f"the hub does not respond, and {repository!r} at revision {revision!r} is not in the"
            " cache. Check the network."
        )
    if _NO_SAFETENSORS in str(error):
        return (
            f"{repository!r} has pickled weights only, which can run code when they are loaded."
            " Set a revision with safetensors files."
        )
    problem = f"cannot download {repository!r} at revision {revision!r} ({error_summary(error)})"
    return f"{problem}. Check the network and the revision."
