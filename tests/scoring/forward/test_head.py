"""The output layer's log-probabilities, against float64 on the same inputs."""

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from curate.pipeline.scoring.forward.head import VOCABULARY_TILE, Head, pad_rows

TILE = VOCABULARY_TILE["cpu"]


def inputs(rows: int, vocabulary: int, width: int = 48, size: float = 1.0) -> tuple[Tensor, Tensor]:
    noise = torch.Generator().manual_seed(rows * vocabulary)
    hidden = torch.randn(rows, width, generator=noise) * size
    return hidden, torch.randn(vocabulary, width, generator=noise)


def in_float64(head: Head, hidden: Tensor, targets: Tensor) -> Tensor:
    logits = hidden.double() @ head.weight.double().T
    if head.bias is not None:
        logits = logits + head.bias.double()
    logits = logits * head.scale
    if head.softcap is not None:
        logits = torch.tanh(logits / head.softcap) * head.softcap
    return logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]


def spread(rows: int, vocabulary: int) -> Tensor:
    """Targets over the whole vocabulary, both ends among them."""
    return torch.linspace(0, vocabulary - 1, rows).long()


@pytest.mark.parametrize("vocabulary", [1, 7, TILE - 1, TILE, TILE + 1, 3 * TILE + 17])
@pytest.mark.parametrize("rows", [1, 65, 600])
def test_against_float64(rows: int, vocabulary: int) -> None:
    hidden, weight = inputs(rows, vocabulary)
    head, targets = Head(weight), spread(rows, vocabulary)
    found = head.log_probs(hidden, targets)
    assert found.dtype == torch.float32
    assert (found - in_float64(head, hidden, targets)).abs().max() <= 2e-5


@pytest.mark.parametrize(
    ("bias", "scale", "softcap"), list(product([False, True], [1.0, 0.0625, 4.0], [None, 3.0]))
)
def test_what_models_do_to_their_logits(bias: bool, scale: float, softcap: float | None) -> None:
    vocabulary = TILE + 301
    hidden, weight = inputs(70, vocabulary)
    given = torch.randn(vocabulary, generator=torch.Generator().manual_seed(3)) if bias else None
    head, targets = Head(weight, given, scale, softcap), spread(70, vocabulary)
    before = hidden.clone(), weight.clone()
    found = head.log_probs(hidden, targets)
    assert (found - in_float64(head, hidden, targets)).abs().max() <= 2e-5 * max(scale, 1)
    assert torch.equal(hidden, before[0])
    assert torch.equal(weight, before[1])


def test_a_zeroed_head_has_the_vocabulary_for_perplexity() -> None:
    hidden, weight = inputs(100, 2 * TILE + 5)
    found = Head(torch.zeros_like(weight)).log_probs(hidden, spread(100, len(weight)))
    assert set(found.tolist()) == {torch.tensor(-math.log(len(weight))).item()}


@pytest.mark.parametrize("size", [1e3, 1e18])
def test_extreme_logits_do_not_overflow(size: float) -> None:
    hidden, weight = inputs(20, TILE + 9, size=size)
    targets = spread(20, len(weight))
    head = Head(weight)
    found, wanted = head.log_probs(hidden, targets), in_float64(head, hidden, targets)
    assert torch.isfinite(found).all()
    assert ((found - wanted).abs() <= 1e-6 * size * 100).all()
    best = (hidden.double() @ weight.double().T).argmax(1)
    assert (head.log_probs(hidden, best).abs() <= 1e-6 * size * 100).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_stays_in_its_row(bad: float) -> None:
    hidden, weight = inputs(70, TILE + 9)
    head, targets = Head(weight), spread(70, len(weight))
    clean = head.log_probs(hidden, targets)
    hidden[5, 0] = bad
    found = head.log_probs(hidden, targets)
    assert not torch.isfinite(found[5])
    others = torch.arange(70) != 5
    assert torch.equal(found[others], clean[others])


def test_a_weight_that_is_nan_spoils_every_row() -> None:
    hidden, weight = inputs(10, TILE + 9)
    weight[TILE + 3] = math.nan
    assert torch.isnan(Head(weight).log_probs(hidden, torch.zeros(10, dtype=torch.long))).all()


def test_a_row_alone_has_the_bits_that_it_has_among_others() -> None:
    hidden, weight = inputs(700, TILE + 130)
    head, targets = Head(weight), spread(700, len(weight))
    whole = head.log_probs(hidden, targets)
    for begin, end in ((0, 1), (3, 8), (64, 200), (511, 513), (0, 650), (699, 700)):
        assert torch.equal(head.log_probs(hidden[begin:end], targets[begin:end]), whole[begin:end])


@pytest.mark.parametrize(("rows", "filled"), [(1, 64), (64, 64), (65, 128), (0, 0)])
def test_rows_are_filled_up_with_zeros(rows: int, filled: int) -> None:
    padded: Any = pad_rows(torch.ones(rows, 3))
    assert padded.shape == (filled, 3)
    assert padded.sum() == rows * 3
