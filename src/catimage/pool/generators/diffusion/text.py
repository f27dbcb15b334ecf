"""Text embeddings of any pipeline of diffusers, computed once per prompt."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import dataclass
from typing import Any

import torch

Rows = torch.Tensor | list[torch.Tensor]
"""One row per prompt; a list if prompts have embeddings of different lengths (Z-Image)."""


@dataclass(frozen=True)
class TextEmbeddings:
    """Embeddings of distinct prompts.

    Attributes:
        row: the row of each prompt.
        tensors: rows of embeddings, by the argument of the pipeline's call that takes them.
    """

    row: dict[str, int]
    tensors: dict[str, Rows]

    def take(self, prompts: list[str]) -> dict[str, Rows]:
        """Return the rows of ``prompts``, in their order."""
        rows = [self.row[prompt] for prompt in prompts]
        return {name: _take_rows(values, rows) for name, values in self.tensors.items()}


def _take_rows(values: Rows, rows: list[int]) -> Rows:
    if isinstance(values, list):
        return [values[row] for row in rows]
    return values[torch.tensor(rows, device=values.device)]


def repeat_row(rows: Rows, n: int) -> Rows:
    """Return ``n`` copies of the only row."""
    return rows * n if isinstance(rows, list) else rows.expand(n, *rows.shape[1:])


def embedding_names(pipeline: type[Any]) -> tuple[str, ...]:
    """Return the names of the values that ``encode_prompt`` of a pipeline class returns.

    Pipelines return different embeddings. By convention of diffusers, the variables in the
    ``return`` statement are named as the arguments of the call that take them, so this function
    reads the names from the source code.

    Returns:
        The names in order; empty if the pipeline's call does not take all embeddings.
    """
    if not hasattr(pipeline, "encode_prompt"):
        return ()
    tree = ast.parse(textwrap.dedent(inspect.getsource(pipeline.encode_prompt)))
    value = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return)][-1]
    elements = value.elts if isinstance(value, ast.Tuple) else [value]
    names = tuple(_variable_name(element) for element in elements)
    required = {
        name
        for name in inspect.signature(pipeline.__call__).parameters
        if "prompt_embeds" in name and not name.startswith(("negative_", "ip_"))
    }
    return names if required and required <= set(names) else ()


def _variable_name(element: ast.expr | None) -> str:
    """Return ``x`` for the expressions ``x`` and ``x if condition else None``, else ``""``."""
    element = element.body if isinstance(element, ast.IfExp) else element
    return element.id if isinstance(element, ast.Name) else ""


@torch.inference_mode()
def encode(
    pipeline: Any,
    names: tuple[str, ...],
    prompts: list[str],
    negative: bool,
    options: dict[str, Any],
    device: str,
) -> dict[str, Rows]:
    """Encode prompts with the pipeline's text encoders.

    Args:
        pipeline: the pipeline.
        names: the :func:`embedding_names` of its class.
        prompts: n prompts.
        negative: whether the embeddings are for the unconditional pass of guidance.
        options: arguments of the pipeline's call; they and the call's defaults replace the
            defaults of ``encode_prompt``.
        device: a device name of torch.

    Returns:
        Rows of embeddings, by the argument of the call that takes them.
    """
    cls = type(pipeline)
    call = inspect.signature(cls.__call__).parameters
    encoding = inspect.signature(cls.encode_prompt).parameters
    arguments = _shared_arguments(cls, options)
    fixed = {"device": device, "do_classifier_free_guidance": negative}
    arguments |= {name: value for name, value in fixed.items() if name in encoding}
    result = pipeline.encode_prompt(prompt=list(prompts), **arguments)
    values = result if isinstance(result, tuple) else (result,)
    rows = _with_mask(dict(zip(names, values, strict=True)))
    if negative and "do_classifier_free_guidance" not in encoding:
        rows = _as_negative(rows)
    return {
        name: value
        for name, value in rows.items()
        if name in call and name.startswith("negative_") == negative and value is not None
    }


def _shared_arguments(pipeline: type[Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``encode_prompt`` that the pipeline's call has too."""
    call = inspect.signature(pipeline.__call__).parameters
    encoding = inspect.signature(pipeline.encode_prompt).parameters
    return {
        name: options.get(name, call[name].default)
        for name in encoding
        if name in call and name not in ("self", "prompt")
    }


def _with_mask(rows: dict[str, Any]) -> dict[str, Any]:
    """Replace a mask that is None, for embeddings without padding, as the call warns of it."""
    if "prompt_embeds_mask" not in rows or rows["prompt_embeds_mask"] is not None:
        return rows
    embeddings = rows["prompt_embeds"]
    mask = torch.ones(embeddings.shape[:2], dtype=torch.long, device=embeddings.device)
    return {**rows, "prompt_embeds_mask": mask}


def _as_negative(rows: dict[str, Any]) -> dict[str, Any]:
    """Rename embeddings to negative ones: FLUX and Qwen-Image encode both in the same way."""
    return {
        f"negative_{name}": value
        for name, value in rows.items()
        if not name.startswith("negative_")
    }
