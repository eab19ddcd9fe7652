"""How far rounding moves a score in half precision, measured on the student's own sequences.

The same weights are run once more with float32 arithmetic: every operation's half-precision
arguments are widened on the way in, one weight at a time, so that no second model is held.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from .packing import Pack, Span
from .scorer import Scorer

SAMPLE = 64
_HALF = (torch.float16, torch.bfloat16)


class Widened(TorchFunctionMode):
    """While active, floating-point arguments of torch functions are float32."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `func` with widened tensors."""
        wide = torch.utils._pytree.tree_map_only(torch.Tensor, _wide, (args, kwargs or {}))
        return func(*wide[0], **wide[1])


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype in _HALF else tensor


def rounding_noise(scorer: Scorer, spans: Sequence[Span]) -> float:
    """The standard deviation (nats) of a mean NLL's error in half precision, over a sample."""
    sample = list(spans)[:SAMPLE]
    if not sample:
        return 0.0

    def widened(pack: Pack) -> torch.Tensor:
        with Widened():
            return scorer.student.log_probs(pack)

    error = scorer.nll(sample) - scorer.nll(sample, log_probs=widened)
    known = error[np.isfinite(error)]
    return float(np.sqrt((known**2).mean())) if len(known) else 0.0
