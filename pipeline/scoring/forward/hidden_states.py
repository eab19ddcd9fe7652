"""The last hidden states of a row of tokens, packed or a sequence alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import CurateError
from .attention import layout_of, make_layout
from .head import ROW_MULTIPLE, pad_rows
from .packing import Pack, Segment

FILLING = 128


def packed_states(model: Any) -> Callable[[Pack], Tensor]:
    """The trunk over a packed row: last hidden states of the predicting positions."""
    trunk, weight = model.base_model, model.get_output_embeddings().weight

    @torch.inference_mode()
    def hidden(pack: Pack) -> Tensor:
        device, dtype = weight.device, weight.dtype
        width = pack.width or ROW_MULTIPLE
        ids = pad_rows(to_device(pack.ids, device).long(), width)
        positions = pad_rows(to_device(pack.positions, device).long(), width)
        layout = make_layout(filled(pack, len(ids)), device, dtype)
        with layout_of(layout):
            states: Tensor = trunk(
                input_ids=ids[None],
                position_ids=positions[None],
                attention_mask=None,
                use_cache=False,
            ).last_hidden_state[0]
        return states.index_select(0, to_device(pack.predict, device))

    return hidden


def alone_states(model: Any) -> Callable[[Pack], Tensor]:
    """The trunk's own forward, one sequence a row."""
    trunk, device = model.base_model, next(model.parameters()).device

    @torch.inference_mode()
    def hidden(pack: Pack) -> Tensor:
        assert len(pack.spans) == 1 and len(pack.segments) == 1
        ids = to_device(pack.ids, device).long()
        output = trunk(input_ids=ids[None], use_cache=False)
        if getattr(output, "last_hidden_state", None) is None:
            raise CurateError(f"{type(model).__name__} gives no hidden states")
        states: Tensor = output.last_hidden_state[0]
        return states.index_select(0, to_device(pack.predict, device))

    return hidden


def filled(pack: Pack, length: int) -> tuple[Segment, ...]:
    """The pack's segments and short ones for the filling, so that attention covers all tokens."""
    filling = (
        Segment(begin, min(begin + FILLING, length), 0)
        for begin in range(len(pack.ids), length, FILLING)
    )
    return (*pack.segments, *filling)


def to_device(array: np.ndarray[Any, Any], device: torch.device) -> Tensor:
    """A numpy array on the device, copied without waiting where that is a GPU."""
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
