"""The head on CUDA: the chunked torch path beside the fused Triton kernel, in one run.

`python benchmarks/head.py [--rows 4096 8192] [--repeats 20]` prints one line a shape: milliseconds
of each, how much of the time the kernel takes (below 1 it is faster), and the largest error of each
against float64 on a sample of rows. Where the ratio is below 1 on a shape, and on its neighbours, by
more than the spread, the kernel may join the package for that dtype and hidden width. The choice
must depend on dtype, H and V alone, never on the rows, or a score would depend on its batch.
"""

import argparse
import statistics
from collections.abc import Callable

import head_triton
import torch
from torch import Tensor

from curate.pipeline.scoring.forward.head import Head

# (H, V) of Qwen2.5-0.5B, Llama-3.2-1B, Llama-2-7B, a 7B with a large vocabulary, Gemma-2-2B.
SHAPES = ((896, 151936), (2048, 128256), (4096, 32000), (4096, 151936), (2304, 256000))
SAMPLE = 64
WARM_UP = 3


def main() -> None:
    """Measures every shape, or says that nothing can be measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[4096, 8192])
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("not measured: no CUDA device")
        return
    if not head_triton.available():
        print("not measured: triton is not installed, or the device is too old for it")
        return
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, bfloat16")
    print(
        "    H       V  rows  torch ms  triton ms  triton/torch (middle half)  error: torch  triton"
    )
    for width, vocabulary in SHAPES:
        for rows in options.rows:
            print(measured(width, vocabulary, rows, options.repeats), flush=True)


def measured(width: int, vocabulary: int, rows: int, repeats: int) -> str:
    """One line of the table."""
    generator = torch.Generator("cuda").manual_seed(0)
    hidden = torch.randn(rows, width, device="cuda", generator=generator).bfloat16()
    weight = torch.randn(vocabulary, width, device="cuda", generator=generator)
    weight = weight.mul_(3 / width**0.5).bfloat16()
    targets = torch.randint(vocabulary, (rows,), device="cuda", generator=generator)
    ways: tuple[Callable[[], Tensor], ...] = (
        lambda: Head(weight).log_probs(hidden, targets),
        lambda: head_triton.log_probs(hidden, weight, targets),
    )
    expected = reference(hidden[:SAMPLE], weight, targets[:SAMPLE])
    errors = [float((way()[:SAMPLE].double() - expected).abs().max()) for way in ways]
    for way in ways * WARM_UP:
        way()
    pairs = [[milliseconds(way) for way in ways] for _ in range(repeats)]
    torch_ms, triton_ms = (statistics.median(times) for times in zip(*pairs, strict=True))
    low, ratio, high = statistics.quantiles([ours / theirs for theirs, ours in pairs], n=4)
    return (
        f"{width:5} {vocabulary:7} {rows:5} {torch_ms:9.2f} {triton_ms:10.2f}"
        f"  {ratio:.2f} ({low:.2f}-{high:.2f}) {errors[0]:25.1e} {errors[1]:7.1e}"
    )


def milliseconds(way: Callable[[], Tensor]) -> float:
    """Device time of one call."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    way()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end))


def reference(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The same inputs in float64, by pieces of the vocabulary that fit."""
    logits = torch.cat([hidden.double() @ w.double().T for w in weight.split(16384)], dim=1)
    return torch.log_softmax(logits, dim=1).gather(1, targets[:, None])[:, 0]


if __name__ == "__main__":
    main()
