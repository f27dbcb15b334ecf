"""Sources of prompts: the scene grammar of the embedded pool, files, and the decision log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from catimage.common.paths import existing_path
from catimage.data.importers.tables import read_prompts_table
from catimage.data.importers.text_table import first_positions
from catimage.data.prompts.cleaning import clean
from catimage.data.prompts.identity import prompt_id
from catimage.data.traffic import TRAFFIC_PROMPTS, read_traffic
from catimage.errors import InputError, nearest
from catimage.params import DecisionSource, FileSource, SceneSource
from catimage.scenes.grammar import sample_scene
from catimage.workspace import Workspace

PromptSource = SceneSource | FileSource | DecisionSource
"""An entry of ``sample.sources``."""

MAX_DRAWS = 100
"""The number of draws per requested caption after which an error is raised."""


@dataclass(frozen=True)
class SourcePrompts:
    """The prompts of one source.

    Attributes:
        name: ``scenes``, ``decisions``, or the name of the file.
        prompts: distinct normalised prompts, in the order of the source.
        n_read: the number of prompts that were read.
        n_too_long: the number of prompts that were omitted because of their length.
    """

    name: str
    prompts: list[str]
    n_read: int
    n_too_long: int = 0


def read_source(source: PromptSource, root: Path, max_length: int) -> SourcePrompts:
    """Read the prompts of a source.

    Args:
        source: an entry of ``sample.sources``.
        root: the folder of the workspace, which relative paths start from.
        max_length: prompts with more characters are omitted.

    Raises:
        InputError: the file is missing, empty, of an unknown format or not UTF-8, or lacks the
            column ``source.column``; a prompt is invalid
            (:func:`catimage.data.prompts.cleaning.clean`); the grammar has fewer captions than
            requested; or no prompts were taken from the decision log.
    """
    if isinstance(source, SceneSource):
        return _draw_captions(source, max_length)
    if isinstance(source, DecisionSource):
        return _read_taken(Workspace(root), max_length)
    return _read_file(source, root, max_length)


def _draw_captions(source: SceneSource, max_length: int) -> SourcePrompts:
    """Draw scenes until there are ``count`` distinct captions.

    Equal seeds give equal captions, and a higher count adds captions at the end.
    """
    rng = np.random.default_rng(source.seed)
    captions: dict[str, None] = {}
    for _ in range(MAX_DRAWS * source.count):
        captions.setdefault(clean(sample_scene(rng).caption(), "scenes"))
        if len(captions) == source.count:
            short = [caption for caption in captions if len(caption) <= max_length]
            return SourcePrompts("scenes", short, source.count, source.count - len(short))
    raise InputError(
        f"sample.sources: the scene grammar gave {len(captions):,} distinct captions, fewer than"
        f" the count of {source.count:,}. Lower the count."
    )


def _read_file(source: FileSource, root: Path, max_length: int) -> SourcePrompts:
    path = existing_path(root, source.path)
    rows = read_prompts_table(path, source.column)
    if source.column not in rows.names:
        raise InputError(
            f"{path}: the column {source.column!r} is missing{nearest(source.column, rows.names)}."
            f" Set 'column' of the source to one of the columns {', '.join(rows.names[:12])}."
        )
    codes, texts = rows.texts(source.column)
    codes = codes[: source.limit]
    first = first_positions(codes)
    prompts: dict[str, str] = {}
    too_long = np.zeros(len(texts), bool)
    for code, position in enumerate(first):
        prompt = clean(texts[code], rows.message_prefix(position))
        too_long[code] = len(prompt) > max_length
        if not too_long[code]:
            prompts.setdefault(prompt_id(prompt), prompt)
    return SourcePrompts(path.name, list(prompts.values()), len(codes), int(too_long[codes].sum()))


def _read_taken(workspace: Workspace, max_length: int) -> SourcePrompts:
    """Read the prompts that ``catimage intake`` has taken from the decision log."""
    path = workspace.traffic_prompts
    if not path.exists():
        raise InputError(
            f"{path}: not found, because no prompts have been taken from the decision log. Set"
            " serving.log_prompts to true, and run 'catimage intake' when there is traffic."
        )
    prompts = read_traffic(path, TRAFFIC_PROMPTS)["prompt"].tolist()
    short = [prompt for prompt in prompts if len(prompt) <= max_length]
    return SourcePrompts("decisions", short, len(prompts), len(prompts) - len(short))
