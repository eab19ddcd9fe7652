"""Devices by their names."""

import pytest
import torch

from curate.pipeline.errors import CurateError
from curate.pipeline.models.devices import pick_device, pick_dtype


@pytest.mark.parametrize("name", ["nothing", "meta", "cpu:x", "mps:9"])
def test_a_device_that_computes_nothing_here_is_refused(name: str) -> None:
    with pytest.raises(CurateError, match=f"--device {name}: no such device"):
        pick_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_without_a_gpu_the_processor_is_taken(name: str) -> None:
    with pytest.raises(CurateError, match=r"the judge's device cuda.*: no CUDA device"):
        pick_device(name, option="the judge's device")
    assert pick_device("auto") == torch.device("cpu")


def test_a_processor_computes_in_float32() -> None:
    assert pick_dtype(torch.device("cpu"), otherwise="float16") == "float32"
