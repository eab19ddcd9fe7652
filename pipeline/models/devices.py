"""Devices by their names, and the number format that suits them."""

import gc
from typing import TYPE_CHECKING

from ..config import Dtype
from ..errors import CurateError

if TYPE_CHECKING:
    import torch


def pick_devices(name: str) -> list[str]:
    """`cuda:0,1` and `cpu,cpu` name several devices; `cuda` is all GPUs of this machine.

    >>> pick_devices("cuda:0,1")
    ['cuda:0', 'cuda:1']
    """
    import torch

    if name == "cuda" and torch.cuda.device_count() > 1:
        return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    first, *more = name.split(",")
    return [first, *(f"cuda:{part}" if part.isdigit() else part for part in more)]


def pick_device(name: str, *, option: str = "--device") -> "torch.device":
    """`auto` is the first GPU where there is one. Raises CurateError for a device not there."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise CurateError(f"{option} {name}: no CUDA device is available here")
    try:
        device = torch.device(name)
        if device.type != "cuda":  # a GPU is left alone by a process that does not compute on it
            torch.zeros(1, device=device).tolist()
    except (RuntimeError, NotImplementedError, AssertionError):  # `meta` holds no numbers
        raise CurateError(f"{option} {name}: no such device here") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise CurateError(f"{option} {name}: only {torch.cuda.device_count()} GPUs are here")
    return device


def release_memory() -> None:
    """Let others have the memory of a model that nobody holds any more."""
    import torch

    gc.collect()  # a trainer is in reference cycles
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def pick_dtype(device: "torch.device", *, otherwise: Dtype = "float32") -> Dtype:
    """bfloat16 on a GPU that computes in it (one that emulates it is slow), float32 on a CPU."""
    import torch

    if device.type != "cuda":
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else otherwise
