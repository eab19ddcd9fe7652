"""Matrix products on a CPU: torch's numbers, in bits that the number of rows does not change."""

from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from curate.pipeline.scoring.forward.products import linear, speed_up

from ..tiny import llama

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(("width", "columns"), [(256, 688), (688, 256), (640, 1536), (48, 7)])
def test_a_rows_bits_are_its_own(width: int, columns: int) -> None:
    torch.manual_seed(0)
    rows, weight, bias = torch.randn(1088, width), torch.randn(columns, width), torch.randn(columns)
    whole = linear(rows, weight, bias)
    exact = torch.nn.functional.linear(rows.double(), weight.double(), bias.double())
    torch.testing.assert_close(whole.double(), exact, rtol=1e-4, atol=1e-4)
    for begin, end in ((0, 64), (5, 133), (64, 576), (1000, 1088), (0, 1024)):
        assert torch.equal(linear(rows[begin:end], weight, bias), whole[begin:end])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_other_numbers_are_torchs(dtype: torch.dtype) -> None:
    rows, weight = torch.randn(64, 32).to(dtype), torch.randn(16, 32).to(dtype)
    assert torch.equal(linear(rows, weight), torch.nn.functional.linear(rows, weight))


class Quantised(torch.Tensor):
    """A weight that knows one product alone, as those of quantised models do."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == torch.ops.mkldnn._linear_pointwise:
            raise NotImplementedError(func)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))


def test_quantised_weights_compute_their_products() -> None:
    rows, weight = torch.randn(64, 32), torch.randn(16, 32)
    found = linear(rows, weight.as_subclass(Quantised))
    assert torch.equal(found, torch.nn.functional.linear(rows, weight))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_models_states_are_the_same(family: str) -> None:
    gpt2 = GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=64)
    model = (llama() if family == "llama" else GPT2LMHeadModel(gpt2)).float().eval()
    ids = torch.arange(2, 40)[None]
    with torch.inference_mode():
        before = model(ids).logits
        speed_up(model)
        torch.testing.assert_close(model(ids).logits, before, rtol=1e-4, atol=1e-4)
