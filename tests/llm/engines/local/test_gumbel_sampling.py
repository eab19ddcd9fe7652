"""GumbelSampler: the right distribution, and of each request alone."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import TopPLogitsWarper

from curate.pipeline.llm.engines.local.gumbel_sampling import GumbelSampler, gumbel_noise, nucleus

DRAWS = 10_000
LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.5, -1.0, -2.0, -5.0])


def asked(position: int, *, new_token: bool = True, **said: Any) -> Any:
    """A request of a batch, as transformers' continuous batching has them."""
    state = SimpleNamespace(logit_processor_kwargs=said, position_offset=position)
    return SimpleNamespace(state=state, has_new_token=new_token)


def processed(logits: Tensor, *requests: Any) -> Tensor:
    sampler = GumbelSampler()
    rows = torch.zeros(sampler.tensors_required, 1 + len(requests), dtype=torch.int32)
    sampler.prepare_tensor_args(requests, rows)
    return sampler(torch.zeros(0), logits, rows[:, : len(logits)])


def drawn(**said: Any) -> Tensor:
    """A token of LOGITS at each of DRAWS positions of one stream."""
    requests = [asked(position, stream=7, **said) for position in range(DRAWS)]
    return processed(LOGITS.expand(DRAWS, -1), *requests).argmax(-1)


def chi_square(tokens: Tensor, probabilities: Tensor) -> float:
    expected = probabilities * len(tokens)
    counts = torch.bincount(tokens, minlength=len(probabilities))
    assert counts[expected == 0].sum() == 0
    return float((((counts - expected) ** 2) / expected)[expected > 0].sum())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_tokens_come_as_often_as_softmax_says(temperature: float) -> None:
    expected = (LOGITS.double() / temperature).softmax(-1)
    assert chi_square(drawn(temperature=temperature), expected) < 22.5  # 0.999 of 6 degrees


@pytest.mark.parametrize("top_p", [0.3, 0.7, 0.9, 0.99])
def test_tokens_come_from_the_nucleus_as_often_as_they_should(top_p: float) -> None:
    kept = TopPLogitsWarper(top_p)(None, LOGITS[None])[0].double().softmax(-1)
    assert chi_square(drawn(temperature=1.0, top_p=top_p), kept) < 22.5


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.999])
def test_the_nucleus_is_that_of_a_sort(top_p: float) -> None:
    logits = torch.randn(50, 3000, generator=torch.Generator().manual_seed(0)) * 3
    found = nucleus(logits.softmax(-1), torch.full((50, 1), top_p))
    assert torch.equal(found, TopPLogitsWarper(top_p)(None, logits).isfinite())


def test_all_that_ties_with_the_least_of_the_nucleus_is_in_it() -> None:
    probabilities = torch.tensor([[0.4, 0.2, 0.2, 0.2], [0.25, 0.25, 0.25, 0.25]])
    found = nucleus(probabilities, torch.tensor([[0.5], [1.0]]))
    assert found.all()
    assert nucleus(probabilities[:1], torch.tensor([[0.4]])).tolist() == [[True] + 3 * [False]]


def test_the_noise_is_gumbels_and_independent() -> None:
    words = torch.randint(-(2**31), 2**31, (2, 400, 1), generator=torch.Generator().manual_seed(0))
    noise = gumbel_noise(words[0].int(), words[1].int(), 1001).double().numpy()
    assert noise.shape == (400, 1001) and np.isfinite(noise).all()
    assert noise.mean() == pytest.approx(np.euler_gamma, abs=0.01)
    assert noise.var() == pytest.approx(np.pi**2 / 6, abs=0.02)
    quantiles = np.quantile(noise, [0.001, 0.5, 0.999])
    assert quantiles == pytest.approx(-np.log(-np.log([0.001, 0.5, 0.999])), abs=0.1)
    for one, other in ((noise[:, 1:], noise[:, :-1]), (noise[1:], noise[:-1])):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.01


@pytest.mark.parametrize("size", [259, 2048, 50257])
def test_a_row_is_the_same_alone_and_beside_others(size: int) -> None:
    logits = torch.randn(9, size, generator=torch.Generator().manual_seed(size))
    requests = [
        asked(40 - number, temperature=number % 3 / 2, top_p=1 - number % 2 / 4, stream=number**9)
        for number in range(9)
    ]
    together = processed(logits, asked(1, new_token=False), *requests)
    for number, request in enumerate(requests):
        assert torch.equal(processed(logits[number, None], request)[0], together[number])
    assert torch.equal(together[::3], logits[::3])  # greedily
    assert not torch.equal(together[1], logits[1])


@pytest.mark.parametrize(("position", "stream"), [(5, 2), (5, 1 + 2**40), (6, 1)])
def test_another_stream_or_position_is_other_noise(position: int, stream: int) -> None:
    requests = [
        asked(5, stream=1, temperature=1.0),
        asked(position, stream=stream, temperature=1.0),
    ]
    noise = processed(torch.zeros(2, 500), *requests)
    assert abs(float(torch.corrcoef(noise)[0, 1])) < 0.2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")
def test_a_gpu_draws_what_a_cpu_draws() -> None:
    logits = torch.randn(64, 5000, generator=torch.Generator().manual_seed(0))
    requests = [asked(n, temperature=n % 3 / 2, top_p=1 - n % 2 / 4, stream=n) for n in range(64)]
    sampler = GumbelSampler()
    rows = torch.zeros(sampler.tensors_required, 64, dtype=torch.int32)
    sampler.prepare_tensor_args(requests, rows)
    there = sampler(torch.zeros(0), logits.cuda(), rows.cuda())
    assert torch.equal(there.argmax(-1).cpu(), processed(logits, *requests).argmax(-1))
