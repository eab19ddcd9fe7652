"""Float32 arithmetic with the weights of a model in half precision."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_HALF = (torch.float16, torch.bfloat16)


class Widened(TorchFunctionMode):
    """While active, floating-point arguments of torch functions are float32.

    Each operation's arguments are widened on the way in, one weight at a time, so that no second
    model is held.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `func` with widened tensors."""
        wide = torch.utils._pytree.tree_map_only(torch.Tensor, _wide, (args, kwargs or {}))
        return func(*wide[0], **wide[1])


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype in _HALF else tensor
