"""Names of registered routers, and the beginnings of their hashes."""

from __future__ import annotations

import pytest

from catimage.errors import InputError
from catimage.tracking.origins import Origin, origins_with_name


def origin(version: str, digest: str, commit: str = "", **files: str) -> Origin:
    return Origin(
        version=version,
        aliases=(),
        digest=digest,
        run=f"run{version}" + "0" * 28,
        created=0,
        reason="",
        git_commit=commit,
        pool="",
        pool_revision="",
        bento="",
        files=files,
    )


ORIGINS = [
    origin("1", "abcdef012345", "c01c943aaaa", prompts="5" * 32),
    origin("2", "abcdef098765", "c01c943aaaa", prompts="9" * 32),
]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("1", ["1"]),
        ("c01c943", ["1", "2"]),
        ("c01c943aaaa", ["1", "2"]),
        ("run1000", ["1"]),
        ("abcdef01", ["1"]),
        ("abcdef09", ["2"]),
        ("5555555", ["1"]),
        ("555555", []),
        ("c01c944", []),
        ("", []),
    ],
)
def test_hashes_may_be_shortened_to_seven_characters(name: str, expected: list[str]) -> None:
    assert [found.version for found in origins_with_name(ORIGINS, name)] == expected


def test_the_beginning_of_several_hashes_is_refused() -> None:
    message = r"^abcdef0: is the beginning of abcdef012345 and abcdef098765\. Give more characters"
    with pytest.raises(InputError, match=message):
        origins_with_name(ORIGINS, "abcdef0")
