"""The fused kernel: on the CUDA device where there is one, else in triton's interpreter.

`python -m pytest benchmarks/test_head_triton.py` runs it, with triton installed.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import head_triton
import pytest
import torch
from head_triton import log_probs
from torch import Tensor

from curate.pipeline.scoring.forward.head import Head

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# triton reads it once, when it is imported. Elsewhere than in its own tests nothing is interpreted.
LATE = DEVICE == "cpu" and "triton" in sys.modules and "TRITON_INTERPRET" not in os.environ
if DEVICE == "cpu" and not LATE:
    os.environ.setdefault("TRITON_INTERPRET", "1")

pytestmark = [
    # The interpreter is numpy, which warns of infinities and NaN that are meant.
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.skipif(LATE, reason="triton was imported before TRITON_INTERPRET=1 was set"),
    pytest.mark.skipif(
        importlib.util.find_spec("triton") is None, reason="triton is not installed"
    ),
]
TOLERANCE = 2e-5
HALF = torch.bfloat16
# Without a device: what the interpreter lets pass, the compiler may not.
COMPILE = """
import inspect
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
import head_triton

tile = head_triton.HALF
constants = dict(
    bias=None, WIDTH=128, TILES=8, SPLITS=16, SCALE=0.5, SOFTCAP=30.0, UPCAST=False,
    BLOCK_R=tile.rows, BLOCK_V=tile.columns, BLOCK_H=tile.width,
)
types = dict(hidden="*bf16", weight="*bf16", targets="*i64")
types |= dict.fromkeys(("maxima", "sums", "picked"), "*fp32")
for kernel in head_triton._kernels()[:2]:
    names = list(inspect.signature(kernel.fn).parameters)
    given = {(names.index(name),): value for name, value in constants.items() if name in names}
    signature = {n: "constexpr" if n in constants else types.get(n, "i32") for n in names}
    options = dict(num_warps=tile.warps, num_stages=head_triton.STAGES, **head_triton.OPTIONS)
    compiled = compile(
        ASTSource(kernel, signature, given), target=GPUTarget("cuda", 90, 32), options=options
    )
    print(len(compiled.asm["cubin"]))
"""


def inputs(
    vocabulary: int, width: int, rows: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden rows, weights and targets that give logits of a few units, as a model does."""
    generator = torch.Generator().manual_seed(vocabulary + width + rows)
    hidden = torch.randn(rows, width, generator=generator)
    weight = torch.randn(vocabulary, width, generator=generator) * (3 / width**0.5)
    targets = torch.randint(0, vocabulary, (rows,), generator=generator)
    return hidden.to(DEVICE, dtype), weight.to(DEVICE, dtype), targets.to(DEVICE)


def some_bias(weight: Tensor) -> Tensor:
    return torch.linspace(-2, 2, len(weight), device=DEVICE).to(weight.dtype)


def worst(hidden: Tensor, weight: Tensor, targets: Tensor, **shape: Any) -> float:
    """The largest difference in nats from float64 with all logits, on the same inputs."""
    logits = hidden.double() @ weight.double().T
    if shape.get("bias") is not None:
        logits += shape["bias"].double()
    logits *= shape.get("scale", 1.0)
    if cap := shape.get("softcap"):
        logits = cap * torch.tanh(logits / cap)
    expected = torch.log_softmax(logits, dim=1).gather(1, targets[:, None])[:, 0]
    found = log_probs(hidden, weight, targets, **shape)
    assert found.dtype == torch.float32 and found.shape == targets.shape
    return float((found.double() - expected).abs().max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("vocabulary", "width", "rows"),
    [(1, 8, 1), (7, 64, 5), (100, 96, 64), (512, 130, 70), (1000, 64, 70), (1000, 130, 1)],
)
def test_equals_float64(vocabulary: int, width: int, rows: int, dtype: torch.dtype) -> None:
    assert worst(*inputs(vocabulary, width, rows, dtype)) <= TOLERANCE


def test_equals_float64_over_many_splits() -> None:
    assert worst(*inputs(32003, 8, 5, HALF)) <= TOLERANCE


@pytest.mark.parametrize("dtype", [torch.float32, HALF])
@pytest.mark.parametrize(
    ("biased", "scale", "softcap"),
    [(True, 1.0, None), (False, 0.0625, None), (False, 1.0, 5.0), (True, 2.0, 30.0)],
)
def test_bias_scale_and_softcap(
    biased: bool, scale: float, softcap: float | None, dtype: torch.dtype
) -> None:
    hidden, weight, targets = inputs(300, 64, 70, dtype)
    bias = some_bias(weight) if biased else None
    assert worst(hidden, weight, targets, bias=bias, scale=scale, softcap=softcap) <= TOLERANCE


def test_a_head_of_zeros_makes_all_tokens_equal() -> None:
    hidden, weight, targets = inputs(2100, 64, 5)
    found = log_probs(hidden, weight * 0, targets)
    assert torch.allclose(found, -torch.full((5,), 2100.0, device=DEVICE).log(), atol=1e-6)


def test_strided_inputs() -> None:
    hidden, weight, targets = inputs(300, 130, 10)
    assert worst(hidden[::2, :96], weight[:, 3:99], targets[::2]) <= TOLERANCE
    assert worst(hidden.T.contiguous().T, weight.T.contiguous().T, targets) <= TOLERANCE


@pytest.mark.parametrize("dtype", [torch.float32, HALF])
def test_a_row_depends_on_itself_alone(dtype: torch.dtype) -> None:
    hidden, weight, targets = inputs(2100, 32, 70, dtype)
    if DEVICE == "cpu":  # numpy's matmul rounds by place in the block: leave it nothing to round
        hidden, weight = (hidden * 8).round() / 8, (weight * 16).round() / 16
    whole = log_probs(hidden, weight, targets)
    order = torch.randperm(70, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    assert torch.equal(log_probs(hidden[order], weight, targets[order]), whole[order])
    for part in (slice(66, 67), slice(3, 68)):
        assert torch.equal(log_probs(hidden[part], weight, targets[part]), whole[part])


@pytest.mark.parametrize("dtype", [torch.float32, HALF])
def test_nan_stays_in_its_row(dtype: torch.dtype) -> None:
    hidden, weight, targets = inputs(300, 64, 70, dtype)
    clean = log_probs(hidden, weight, targets)
    hidden[3, 5] = torch.nan
    found = log_probs(hidden, weight, targets)
    assert found.isnan().nonzero().flatten().tolist() == [3]
    others = torch.arange(70, device=DEVICE) != 3
    assert torch.equal(found[others], clean[others])


@pytest.mark.parametrize("dtype", [torch.float32, HALF])
def test_extreme_logits(dtype: torch.dtype) -> None:
    """One token at +10,000, all others at -10,000: exact in every dtype."""
    hidden = torch.zeros(2, 8, device=DEVICE, dtype=dtype)
    weight = torch.zeros(300, 8, device=DEVICE, dtype=dtype)
    hidden[:, 0] = 100
    weight[:, 0] = -100
    weight[277, 0] = 100
    targets = torch.tensor([277, 5], device=DEVICE)
    assert log_probs(hidden, weight, targets).tolist() == [0.0, -20000.0]
    assert log_probs(hidden, weight, targets, softcap=30.0).tolist() == [0.0, -60.0]


def test_tokens_that_cannot_be() -> None:
    """A bias of -inf over a whole split and more takes its tokens out of the sum."""
    hidden, weight, targets = inputs(2300, 64, 5)
    bias = torch.zeros(2300, device=DEVICE)
    bias[:2200] = -torch.inf
    targets = targets % 100 + 2200
    assert worst(hidden, weight, targets, bias=bias) <= TOLERANCE
    assert log_probs(hidden, weight, targets * 0, bias=bias).tolist() == [-torch.inf] * 5


def test_targets_outside_the_vocabulary_give_nan_and_no_rows_nothing() -> None:
    hidden, weight, _ = inputs(100, 64, 3)
    found = log_probs(hidden, weight, torch.tensor([-1, 99, 100], device=DEVICE))
    assert found.isnan().tolist() == [True, False, True]
    assert log_probs(hidden[:0], weight, torch.zeros(0, dtype=torch.long)).shape == (0,)


def test_compiles_without_a_device(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-W", "error", "-c", COMPILE]
    done = subprocess.run(
        command,
        env={**kept, "TRITON_CACHE_DIR": str(tmp_path)},
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and len(done.stdout.split()) == 2, done.stderr


def test_is_available_here() -> None:
    assert head_triton.available()


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, HALF])
def test_equals_the_chunked_head_on_cuda(dtype: torch.dtype) -> None:
    hidden, weight, targets = inputs(32003, 896, 4097, dtype)
    shape: dict[str, Any] = {"bias": some_bias(weight), "scale": 0.5, "softcap": 30.0}
    log_probs(hidden, weight, targets, **shape)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    found = log_probs(hidden, weight, targets, **shape)
    assert torch.cuda.max_memory_allocated() - before < 4097 * 32003 / 8
    assert (found - Head(weight, **shape).log_probs(hidden, targets)).abs().max() <= 2 * TOLERANCE
