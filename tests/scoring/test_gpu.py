"""The scorer on CUDA: right, a function of a sequence alone, and at work after out-of-memory."""

import copy
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import torch

from curate.pipeline.scoring.model import Student, student_of
from curate.pipeline.scoring.scorer import Scorer

from .tiny import VOCABULARY, llama, one_at_a_time, some_header, some_spans

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
HEADERS = [some_header(9), some_header(30)]
SPANS = [
    *some_spans(HEADERS[0], (150, 64, 63, 31, 17, 9, 8, 4, 2)),
    *some_spans(HEADERS[1], (40, 33, 5))[3:],
]


def model() -> Any:
    return llama(hidden_size=64, num_attention_heads=4, head_dim=16, vocab_size=VOCABULARY + 3)


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16])
def student(request: pytest.FixtureRequest) -> Iterator[Student]:
    found = student_of(copy.deepcopy(model()).to("cuda", request.param), request.param)
    assert found.packed
    yield found


def scores(student: Student, spans: Any = SPANS, budget: int = 2048) -> Any:
    with closing(Scorer(student, HEADERS, batch_tokens=budget)) as scorer:
        return scorer.nll(spans)


def test_near_float64_one_at_a_time(student: Student) -> None:
    """In half precision as near as twice what the model alone, in that precision, is off."""
    exact = one_at_a_time(model(), SPANS)
    bound = 1e-4
    if student.dtype != torch.float32:
        alone = one_at_a_time(copy.deepcopy(model()).to(student.dtype), SPANS, double=False)
        bound = 2 * np.abs(alone - exact).max() + 0.05
    assert np.abs(scores(student) - exact).max() < bound


def test_order_and_neighbours_change_no_bit(student: Student) -> None:
    whole = scores(student)
    assert np.array_equal(scores(student, SPANS[::-1])[::-1], whole)
    alone = np.concatenate([scores(student, [span]) for span in SPANS])
    assert np.array_equal(alone, whole)


def test_rows_that_find_no_memory_are_halved(student: Student) -> None:
    real, refused = student.log_probs, []

    def narrow(pack: Any) -> torch.Tensor:
        if pack.width > 512:
            refused.append(pack.width)
            raise torch.cuda.OutOfMemoryError("no memory left")
        return real(pack)

    with closing(Scorer(student, HEADERS, batch_tokens=2048)) as scorer:
        found = scorer.nll(SPANS, log_probs=narrow)
        assert refused and scorer.budget == 512
    assert np.allclose(found, scores(student, budget=512), atol=0, rtol=0)
