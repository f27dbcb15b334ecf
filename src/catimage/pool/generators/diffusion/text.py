"""Text embeddings of any diffusers pipeline, computed once per prompt."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from catimage.pool.generators.diffusion.call import negative_prompts, other_arguments
from catimage.pool.generators.diffusion.spec import DiffusersSpec

Rows = torch.Tensor | list[torch.Tensor]
"""One row of embeddings per prompt; a list if the rows have different lengths (Z-Image)."""


@dataclass(frozen=True)
class TextEmbeddings:
    """Embeddings of distinct prompts.

    Attributes:
        row: index of the row of each prompt.
        tensors: rows of embeddings, by the :func:`text_options` of the encoding (as text) and by
            the name of the argument of the pipeline's call.
    """

    row: dict[str, int]
    tensors: dict[str, dict[str, Rows]]

    @property
    def prompts(self) -> list[str]:
        """The distinct prompts, in the order of the rows."""
        return list(self.row)

    @classmethod
    def merge(cls, parts: Sequence[TextEmbeddings]) -> TextEmbeddings:
        """Return the embeddings of the prompts of all parts.

        Embeddings that a part lacks, or whose lengths differ, are left out, and are computed again
        when they are needed.
        """
        prompts = dict.fromkeys(prompt for part in parts for prompt in part.row)
        common = set.intersection(*(set(part.tensors) for part in parts))
        owners = [next(part for part in parts if prompt in part.row) for prompt in prompts]
        tensors: dict[str, dict[str, Rows]] = {}
        for key in common:
            rows = [part.take(key, [p]) for p, part in zip(prompts, owners, strict=True)]
            rows_by_name = {name: _concatenate([row[name] for row in rows]) for name in rows[0]}
            complete = {name: values for name, values in rows_by_name.items() if values is not None}
            if len(complete) == len(rows_by_name):
                tensors[key] = complete
        return cls({prompt: row for row, prompt in enumerate(prompts)}, tensors)

    def take(self, options: str, prompts: list[str]) -> dict[str, Rows]:
        """Return the rows of ``prompts`` in their order, encoded with ``options``."""
        rows = [self.row[prompt] for prompt in prompts]
        return {name: _take_rows(values, rows) for name, values in self.tensors[options].items()}


def _concatenate(rows: list[Rows]) -> Rows | None:
    """Concatenate rows; return None if their lengths differ."""
    if isinstance(rows[0], list):
        return [tensor for row in rows for tensor in row]
    tensors = [row for row in rows if isinstance(row, torch.Tensor)]
    return torch.cat(tensors) if len({row.shape[1:] for row in tensors}) == 1 else None


def _take_rows(values: Rows, rows: list[int]) -> Rows:
    if isinstance(values, list):
        return [values[row] for row in rows]
    return values[torch.tensor(rows, device=values.device)]


def repeat_row(rows: Rows, n: int) -> Rows:
    """Return ``n`` copies of the single row in ``rows``."""
    return rows * n if isinstance(rows, list) else rows.expand(n, *rows.shape[1:])


def embedding_names(pipeline: type[Any]) -> tuple[str, ...]:
    """Return the names of the values that ``encode_prompt`` of a pipeline class returns.

    Pipelines return different embeddings. By convention of diffusers, a variable in the ``return``
    statement has the same name as the argument of the call that takes its value, so this function
    reads the names from the source code.

    Returns:
        The names in order. Empty if the call accepts no embeddings, or accepts embeddings that
        ``encode_prompt`` does not return.
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


def text_options(spec: DiffusersSpec, pipeline: type[Any]) -> dict[str, Any]:
    """Return the arguments in ``call`` that affect text embeddings, such as ``clip_skip``.

    Args:
        spec: the generator, with the settings of a candidate.
        pipeline: class of the pipeline.
    """
    if not hasattr(pipeline, "encode_prompt"):
        return {}
    parameters = inspect.signature(pipeline.encode_prompt).parameters
    return {name: value for name, value in other_arguments(spec).items() if name in parameters}


def encode_negative(
    pipeline: Any, names: tuple[str, ...], spec: DiffusersSpec, device: str
) -> dict[str, Rows]:
    """Encode the negative prompts in ``call``, by default the empty prompt.

    Args:
        pipeline: the pipeline.
        names: the :func:`embedding_names` of its class.
        spec: the generator, with the settings of a candidate.
        device: a device name of torch.

    Returns:
        One row of embeddings for the unconditional pass of guidance, by the name of the argument of
        the pipeline's call.
    """
    given = negative_prompts(spec)
    options = text_options(spec, type(pipeline))
    if "do_classifier_free_guidance" in inspect.signature(pipeline.encode_prompt).parameters:
        # An empty second prompt means the first one, in encode_prompt as in the pipeline's call.
        texts = {n: [text] for n, text in given.items() if text or n == "negative_prompt"}
        return encode(pipeline, names, [""], True, {**options, **texts}, device)
    further = {n.removeprefix("negative_"): [text] for n, text in given.items() if text}
    prompts = further.pop("prompt", [""])
    return encode(pipeline, names, prompts, True, {**options, **further}, device)


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
        options: arguments of ``encode_prompt``. These and the defaults of the pipeline's call take
            precedence over the defaults of ``encode_prompt``.
        device: a device name of torch.

    Returns:
        Rows of embeddings, by the name of the argument of the pipeline's call.
    """
    cls = type(pipeline)
    call_parameters = inspect.signature(cls.__call__).parameters
    encode_parameters = inspect.signature(cls.encode_prompt).parameters
    arguments = _shared_arguments(cls, options)
    fixed = {"device": device, "do_classifier_free_guidance": negative}
    arguments |= {name: value for name, value in fixed.items() if name in encode_parameters}
    result = pipeline.encode_prompt(prompt=list(prompts), **arguments)
    values = result if isinstance(result, tuple) else (result,)
    rows = _with_mask(dict(zip(names, values, strict=True)))
    if negative and "do_classifier_free_guidance" not in encode_parameters:
        rows = _as_negative(rows)
    return {
        name: value
        for name, value in rows.items()
        if name in call_parameters
        and name.startswith("negative_") == negative
        and value is not None
    }


def _shared_arguments(pipeline: type[Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return the values of the arguments that ``encode_prompt`` and the pipeline's call share."""
    call_parameters = inspect.signature(pipeline.__call__).parameters
    encode_parameters = inspect.signature(pipeline.encode_prompt).parameters
    return {
        name: options.get(name, call_parameters[name].default)
        for name in encode_parameters
        if name in call_parameters and name not in ("self", "prompt")
    }


def _with_mask(rows: dict[str, Any]) -> dict[str, Any]:
    """Replace a mask that is None by a mask of ones, which has the same effect.

    The call of the pipeline warns about a mask that is None.
    """
    if "prompt_embeds_mask" not in rows or rows["prompt_embeds_mask"] is not None:
        return rows
    embeddings = rows["prompt_embeds"]
    mask = torch.ones(embeddings.shape[:2], dtype=torch.long, device=embeddings.device)
    return {**rows, "prompt_embeds_mask": mask}


def _as_negative(rows: dict[str, Any]) -> dict[str, Any]:
    """Rename embeddings to the arguments of the unconditional pass, such as ``negative_...``.

    FLUX and Qwen-Image encode prompts of both passes in the same way.
    """
    return {
        f"negative_{name}": value
        for name, value in rows.items()
        if not name.startswith("negative_")
    }
