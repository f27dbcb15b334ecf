"""Counts the operations of a pipeline's models on torch's meta device, call by call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import flop_registry

from catimage.pool.flops import PROJECTIONS

DENOISERS = ("unet", "transformer")
"""The names that the denoiser has in pipelines."""
DECODER = "vae"
"""The name of the part that decodes latents."""


@dataclass(frozen=True)
class CallCost:
    """Cost of one call of a model.

    Attributes:
        projections: TFLOPs of products of activations with weights (linear layers, convolutions).
        products: TFLOPs of products of activations with each other (attention).
        rows: number of images or prompts in the batch.
        largest: number of elements that the largest layer reads and writes together.
    """

    projections: float
    products: float
    rows: int
    largest: int


class _OperationCounter(TorchDispatchMode):
    """Counts the operations within its context. A multiply-add counts as two operations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.projections, self.products, self.largest = 0, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        operation = func._overloadpacket
        if operation in PROJECTIONS:
            layer_input = args[1] if operation is torch.ops.aten.addmm else args[0]
            self.projections += flop_registry[operation](*args, **(kwargs or {}), out_val=out)
            self.largest = max(self.largest, layer_input.numel() + out.numel())
        elif operation in flop_registry:
            self.products += flop_registry[operation](*args, **(kwargs or {}), out_val=out)
        return out


class CostMeter:
    """Runs the models of a pipeline on the meta device and records the cost of each call.

    The cost of a call is computed once for all calls with inputs of the same shapes. With a caching
    method, the cost also depends on the number of previous calls of the denoiser.

    Attributes:
        calls: name of the part and cost of each call, in order.
        cache: name of the caching method that is in use; empty if there is none.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, CallCost]] = []
        self.cache = ""
        self._counted: dict[str, tuple[CallCost, Any]] = {}

    def attach(self, part: str, model: Any, method: str) -> None:
        """Replace a method of a model by one that counts its operations.

        The new method takes CPU tensors and returns CPU tensors of zeros.

        Args:
            part: name of the part in the pipeline.
            model: the model, on the meta device.
            method: name of the method.
        """
        run = getattr(model, method)

        def counted_method(*args: Any, **kwargs: Any) -> Any:
            inputs = tree_map(_to_meta, (args, _with_4d_mask(kwargs)))
            key = self._key(part, inputs)
            if key not in self._counted:
                self._counted[key] = _run_and_count(run, *inputs)
            cost, out = self._counted[key]
            self.calls.append((part, cost))
            return tree_map(_to_zeros, out)

        setattr(model, method, counted_method)

    def _key(self, part: str, inputs: Any) -> str:
        key = f"{part} {inputs}"
        if self.cache and part in DENOISERS:
            position = sum(name == part for name, _ in self.calls)
            key += f" {self.cache} {position}"
        return key


def _run_and_count(
    run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[CallCost, Any]:
    try:
        with torch.no_grad(), _OperationCounter() as counter:
            out = run(*args, **kwargs)
    except RuntimeError:  # the model reads the values of its mask (ChatGLM, for Kolors)
        if kwargs.get("attention_mask") is None:
            raise
        return _run_and_count(run, args, {**kwargs, "attention_mask": None})
    projections, products = counter.projections / 1e12, counter.products / 1e12
    return CallCost(projections, products, len(out[0]), counter.largest), out


def _to_meta(value: Any) -> Any:
    return value.to("meta") if isinstance(value, torch.Tensor) else value


def _to_zeros(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.is_meta:
        return torch.zeros(value.shape, dtype=value.dtype)
    return value


def _with_4d_mask(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Replace a 2-D padding mask by a 4-D one.

    Language models read the values of a 2-D mask, which meta tensors do not have. They use a 4-D
    mask without reading its values.
    """
    mask = kwargs.get("attention_mask")
    if not isinstance(mask, torch.Tensor) or mask.dim() != 2:
        return kwargs
    rows, length = mask.shape
    return {**kwargs, "attention_mask": torch.zeros(rows, 1, length, length)}
