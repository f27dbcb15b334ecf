"""Text embeddings of any pipeline of diffusers, encoded once a prompt and given to its call by
name.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import dataclass
from typing import Any

import torch

Rows = torch.Tensor | list[torch.Tensor]
"""One row a prompt; a list where prompts have embeddings of different lengths (Z-Image)."""


@dataclass(frozen=True)
class Encoded:
    """Text embeddings of distinct prompts: ``row[prompt]`` is a prompt's row in each of
    ``tensors``.
    """

    row: dict[str, int]
    tensors: dict[str, Rows]

    def take(self, prompts: list[str]) -> dict[str, Rows]:
        """The embeddings of ``prompts``, one row each, in their order."""
        rows = [self.row[p] for p in prompts]
        return {
            k: (
                [v[i] for i in rows]
                if isinstance(v, list)
                else v[torch.tensor(rows, device=v.device)]
            )
            for k, v in self.tensors.items()
        }


def repeated(rows: Rows, n: int) -> Rows:
    """The only row, n times."""
    return rows * n if isinstance(rows, list) else rows.expand(n, *rows.shape[1:])


def embedding_names(pipeline: type[Any]) -> tuple[str, ...]:
    """The names of what ``encode_prompt`` returns, in order, or none where its call does not take
    all of the embeddings back.

    Families differ in what they return; by the convention of diffusers the variables of the
    ``return`` statement have the names that the call's arguments have, so the names are read there.
    """
    if not hasattr(pipeline, "encode_prompt"):
        return ()
    tree = ast.parse(textwrap.dedent(inspect.getsource(pipeline.encode_prompt)))
    value = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return)][-1]
    elements = value.elts if isinstance(value, ast.Tuple) else [value]
    names = tuple(_name(element) for element in elements)
    needed = {
        p
        for p in inspect.signature(pipeline.__call__).parameters
        if "prompt_embeds" in p and not p.startswith(("negative_", "ip_"))
    }
    return names if needed and needed <= set(names) else ()


def _name(element: ast.expr | None) -> str:
    """``x``, also of ``x if needed else None``."""
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
    """Embeddings by the names of the call's arguments, for ``prompts`` or, where ``negative``, for
    what guidance leads away from.

    ``names`` are the pipeline's :func:`embedding_names`; ``options`` are arguments of the call:
    those that encoding has too, and the call's defaults of them, go before encoding's own.
    """
    cls = type(pipeline)
    call, own = (inspect.signature(f).parameters for f in (cls.__call__, cls.encode_prompt))
    shared = {
        name: options.get(name, call[name].default)
        for name in own
        if name in call and name not in ("self", "prompt")
    }
    told = {"device": device, "do_classifier_free_guidance": negative}
    made = pipeline.encode_prompt(
        prompt=list(prompts), **shared, **{k: v for k, v in told.items() if k in own}
    )
    named = dict(zip(names, made if isinstance(made, tuple) else (made,), strict=True))
    if (
        "prompt_embeds_mask" in named and named["prompt_embeds_mask"] is None
    ):  # no padding; said, or the call warns every time
        named["prompt_embeds_mask"] = torch.ones(
            named["prompt_embeds"].shape[:2], dtype=torch.long, device=device
        )
    if (
        negative and "do_classifier_free_guidance" not in own
    ):  # FLUX, Qwen-Image: the empty prompt, as any other
        named = {
            f"negative_{name}": rows
            for name, rows in named.items()
            if not name.startswith("negative_")
        }
    return {
        k: rows
        for k, rows in named.items()
        if k in call and k.startswith("negative_") == negative and rows is not None
    }
