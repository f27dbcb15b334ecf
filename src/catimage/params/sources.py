"""The prompt sources in ``sample.sources`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from catimage.params.section import Section


class SceneSource(Section):
    """A prompt source: random captions of the scene grammar of the embedded pool.

    Attributes:
        kind: ``scenes``.
        count: number of captions.
        seed: seed of the random captions.
    """

    kind: Literal["scenes"] = "scenes"
    count: int = Field(1400, ge=1)
    seed: int = 0


class FileSource(Section):
    """A prompt source: a file.

    Attributes:
        kind: ``file``.
        path: a csv, tsv, jsonl, json or parquet file, or a txt file with one prompt per line.
        column: name of the column with the prompts; ignored for a txt file.
        limit: maximum number of prompts; None for all prompts of the file.
    """

    kind: Literal["file"] = "file"
    path: str
    column: str = "prompt"
    limit: int | None = Field(None, ge=1)


class DecisionSource(Section):
    """A prompt source: the prompts of requests to the service.

    ``catimage intake`` takes them from the decision log and adds them to
    ``data/traffic/prompts.parquet``, which stage sample reads. The settings apply to new prompts;
    those that were taken earlier stay.

    Attributes:
        kind: ``decisions``.
        days: age in days of the oldest requests from which prompts are taken.
        limit: maximum number of prompts that one run of ``catimage intake`` takes.
        folder: the folder of the decision log; by default that of the service
            (``CATIMAGE_LOG_FOLDER``).
    """

    kind: Literal["decisions"] = "decisions"
    days: float = Field(30.0, gt=0, allow_inf_nan=False)
    limit: int = Field(200, ge=1)
    folder: str = ""


SOURCE_KINDS = ("scenes", "file", "decisions")
"""The values of ``kind`` of a prompt source."""


def _source_kind(source: Any) -> str:
    """Return the kind of a source; without ``kind``, a source with ``path`` is a file."""
    if isinstance(source, Section):
        return str(getattr(source, "kind", ""))
    keys = source if isinstance(source, dict) else {}
    return str(keys.get("kind") or ("file" if "path" in keys else "scenes"))


Source = Annotated[
    Annotated[SceneSource, Tag("scenes")]
    | Annotated[FileSource, Tag("file")]
    | Annotated[DecisionSource, Tag("decisions")],
    Discriminator(_source_kind),
]
