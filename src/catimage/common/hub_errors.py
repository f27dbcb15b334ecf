"""One sentence for each way of not getting a repository's files from the model hub."""

from __future__ import annotations


def refusal(error: Exception, repository: str, revision: str) -> str:
    """What an error of huggingface_hub means for ``repository`` at ``revision``, and how to mend
    it; without a full stop.
    """
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return (
            f"{repository!r} is gated: accept its terms on its page of the hub, and set HF_TOKEN to"
            " a token of that account"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"the hub has no {repository!r}, or it is private: mend its name, or set HF_TOKEN to a"
            " token that may read it"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repository!r} has no revision {revision!r} (any more): give it another 'revision'"
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return f"{repository!r} lacks a file at revision {revision!r}: {first_line(error)}"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return (
            f"the hub does not answer, and {repository!r} at revision {revision!r} has not been"
            " fetched before: look to the network"
        )
    if "necessary `safetensors` weights" in str(
        error
    ):  # diffusers' words; its error has no class of its own
        return (
            f"{repository!r} has weights as pickles alone, which can run code when they are loaded:"
            " take a revision with safetensors"
        )
    return f"cannot fetch {repository!r} at revision {revision!r}: {first_line(error)}"


def first_line(error: Exception) -> str:
    """A library's error in one line, cut at 300 characters."""
    return (
        " ".join(line for line in str(error).splitlines() if line.strip())[:300]
        or type(error).__name__
    ).rstrip(".")
