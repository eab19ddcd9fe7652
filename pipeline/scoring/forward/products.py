"""Float32 matrix products on a CPU by oneDNN, twice as fast as torch's own choice on AMD's AVX-512.

torch takes MKL, which uses half the width of AVX-512 on processors that are not Intel's.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`functional.linear`; of float32 rows [..., H] on a CPU by oneDNN.

    There a row's bits do not depend on how many rows there are, from two on. Quantised weights,
    which are tensors of a kind of their own, compute their products themselves.
    """
    plain = type(weight) in (Tensor, torch.nn.Parameter)
    single = plain and rows.dtype == weight.dtype == torch.float32
    if not (single and rows.is_cpu and _pays()):
        return functional.linear(rows, weight, bias)
    found: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return found


def speed_up(model: torch.nn.Module) -> None:
    """Let the linear layers of a model on a CPU take `linear`."""
    from transformers.pytorch_utils import Conv1D

    for layer in model.modules():
        if type(layer) in (torch.nn.Linear, Conv1D):
            given: Any = layer
            given.forward = partial(_forward, layer, transposed=type(layer) is Conv1D)


def _forward(layer: Any, rows: Tensor, *, transposed: bool) -> Tensor:
    return linear(rows, layer.weight.T if transposed else layer.weight, layer.bias)


def _pays() -> bool:
    """Whether torch has oneDNN, its product among it, and the processor AVX."""
    wide = torch.backends.cpu.get_cpu_capability().startswith("AVX")
    there = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return wide and there and hasattr(torch.ops.mkldnn, "_linear_pointwise")
