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
        options: arguments of the pipeline's call. Those that ``encode_prompt`` has too, and the
            call's defaults of them, replace the defaults of ``encode_prompt``.
        device: a device name of torch.

    Returns:
        Rows of embeddings, by the argument of the pipeline's call that takes them.
    """
    cls = type(pipeline)
    call = inspect.signature(cls.__call__).parameters
    encoding = inspect.signature(cls.encode_prompt).parameters
    arguments = {
        name: options.get(name, call[name].default)
        for name in encoding
        if name in call and name not in ("self", "prompt")
    }
    requests = {"device": device, "do_classifier_free_guidance": negative}
    arguments |= {name: value for name, value in requests.items() if name in encoding}
    result = pipeline.encode_prompt(prompt=list(prompts), **arguments)
    values = result if isinstance(result, tuple) else (result,)
    rows = dict(zip(names, values, strict=True))
    if "prompt_embeds_mask" in rows and rows["prompt_embeds_mask"] is None:
        # No padding. Without a mask, the call warns every time.
        rows["prompt_embeds_mask"] = torch.ones(
            rows["prompt_embeds"].shape[:2], dtype=torch.long, device=device
        )
    if negative and "do_classifier_free_guidance" not in encoding:
        # FLUX and Qwen-Image encode negative prompts like any others.
        rows = {
            f"negative_{name}": value
            for name, value in rows.items()
            if not name.startswith("negative_")
        }
    return {
        name: value
        for name, value in rows.items()
        if name in call and name.startswith("negative_") == negative and value is not None
    }
