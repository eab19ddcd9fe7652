"""Scores: right against float64, and a function of a sequence alone, to the bit."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.pipeline.errors import CurateError
from curate.pipeline.scoring.forward.packing import Ids, Span
from curate.pipeline.scoring.model import student_of
from curate.pipeline.scoring.scorer import Scorer

from .tiny import VOCABULARY, llama, one_at_a_time, score_with, some_header, some_spans

pytestmark = pytest.mark.usefixtures("one_thread")

# Widths that are no multiple of anything, so that a BLAS has edges to treat in its own way.
MODEL = llama(hidden_size=56, intermediate_size=100, head_dim=14, vocab_size=VOCABULARY + 3)
HEADERS = [some_header(9), some_header(30)]
# The second header opens like nothing else; the third like the first, and is longer.
HEADERS.append(np.concatenate((HEADERS[0], some_header(4))))
SPANS = [
    *some_spans(HEADERS[0], (150, 64, 63, 31, 17, 9, 8, 4, 2)),
    *some_spans(HEADERS[1], (40, 33, 5))[3:],
    *some_spans(HEADERS[2], (40, 2))[2:],
]
LEAST = st.sampled_from([64, 65, 127, 200, 256, 1000, 2048, 8192])


@pytest.fixture(scope="module")
def student() -> Any:
    found = student_of(MODEL, torch.float32)
    assert found.packed
    return found


@pytest.fixture(scope="module")
def scores(student: Any) -> Any:
    """The score of every span, each computed in a call of its own."""
    with closing(Scorer(student, HEADERS, batch_tokens=2048)) as scorer:
        return np.concatenate([scorer.nll([span]) for span in SPANS])


def test_against_float64_one_at_a_time(student: Any) -> None:
    found = score_with(student, SPANS, HEADERS)
    assert np.abs(found - one_at_a_time(MODEL, SPANS)).max() < 1e-5


def test_without_headers_too(student: Any) -> None:
    assert np.abs(score_with(student, SPANS) - one_at_a_time(MODEL, SPANS)).max() < 1e-5


def test_a_zeroed_head_has_the_vocabulary_for_perplexity() -> None:
    model = llama(tie_word_embeddings=False)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    found = score_with(student_of(model, torch.float32), SPANS, HEADERS)
    assert np.unique(found).tolist() == [float(np.log(np.float32(VOCABULARY)))]


@given(
    st.permutations(range(len(SPANS))), LEAST, st.integers(1, len(SPANS)), st.sampled_from([1, 2])
)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_bitwise_the_same_in_any_company(
    student: Any, scores: Any, order: Sequence[int], budget: int, window: int, number: int
) -> None:
    """Shuffled, in rows of other lengths, some at a time, with one thread or two."""
    torch.set_num_threads(number)
    with closing(Scorer(student, HEADERS, batch_tokens=budget)) as scorer:
        for begin in range(0, len(order), window):
            chosen = order[begin : begin + window]
            found = scorer.nll([SPANS[index] for index in chosen])
            assert found.tobytes() == scores[list(chosen)].tobytes()


@given(st.integers(0, len(SPANS) - 1), st.randoms(use_true_random=False), LEAST)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_row_sees_another(
    student: Any, scores: Any, changed: int, random: Any, budget: int
) -> None:
    """Other tokens in one sequence, behind its header, change no other sequence's score."""
    span = SPANS[changed]
    tokens = span.ids.copy()
    for index in range(span.start, len(tokens)):
        tokens[index] = random.randrange(2, VOCABULARY)
    others = [*SPANS[:changed], Span(tokens, span.start), *SPANS[changed + 1 :]]
    found = score_with(student, others, HEADERS, budget)
    apart = np.arange(len(SPANS)) != changed
    assert found[apart].tobytes() == scores[apart].tobytes()


def test_the_guard_would_notice(student: Any) -> None:
    """A score does depend on every token of its own sequence, also on those of its header."""
    span = SPANS[len(SPANS) // 2]
    before = score_with(student, [span], HEADERS)[0]
    for index in range(len(span.ids)):
        tokens = span.ids.copy()
        tokens[index] = (tokens[index] + 1) % VOCABULARY
        assert score_with(student, [Span(tokens, span.start)], HEADERS)[0] != before


def test_equal_sequences_have_equal_scores_and_are_computed_once(student: Any, scores: Any) -> None:
    copies = [Span(span.ids.copy(), span.start) for span in SPANS]
    with closing(Scorer(student, HEADERS, batch_tokens=256)) as scorer:
        found = scorer.nll([*SPANS, *copies])
        once = scorer.tokens
        scorer.nll(SPANS)
        assert scorer.tokens == 2 * once
    assert found[: len(SPANS)].tobytes() == found[len(SPANS) :].tobytes() == scores.tobytes()


def test_ticks_count_what_was_computed(student: Any) -> None:
    ticks: list[int] = []
    with closing(Scorer(student, HEADERS, batch_tokens=128)) as scorer:
        scorer.nll([*SPANS, SPANS[0]], ticks.append)
        assert scorer.nll([]).tolist() == []
    assert sum(ticks) == len(SPANS)
    assert len(ticks) > 1


def test_a_shared_header_saves_its_tokens(student: Any) -> None:
    header: Ids = HEADERS[1]
    spans = some_spans(header, (20, 19, 18, 17))[4:]
    used = []
    for headers in ([], [header]):
        with closing(Scorer(student, headers, batch_tokens=1000)) as scorer:
            scorer.nll(spans)
            used.append(scorer.tokens)
    assert used[0] - used[1] == 3 * len(header)


def test_nan_weights_give_no_score() -> None:
    model = llama()
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = torch.nan
    found = score_with(student_of(model, torch.float32), SPANS, HEADERS)
    assert np.isnan(found).all()


def test_a_token_without_numbers_spoils_its_own_sequences_only(student: Any, scores: Any) -> None:
    """NaN in one token's embedding: the sequences that hold it have no score, the others theirs."""
    token = int(SPANS[0].ids[40])
    holding = np.array([token in span.ids[:-1] for span in SPANS])
    assert holding.any()
    assert not holding.all()
    model = llama(hidden_size=56, intermediate_size=100, head_dim=14, vocab_size=VOCABULARY + 3)
    broken = student_of(model, torch.float32)
    with torch.no_grad():
        model.model.embed_tokens.weight[token] = torch.nan
    found = score_with(broken, SPANS, HEADERS)
    assert np.isnan(found[holding]).all()
    assert found[~holding].tobytes() == scores[~holding].tobytes()


def test_alone_is_bitwise_the_same_too() -> None:
    """What cannot share a row is scored one by one, and as much a function of itself alone."""
    model = llama()
    model.set_output_embeddings(torch.nn.Sequential(model.lm_head))
    single = student_of(model, torch.float32)
    assert not single.packed
    forwards = score_with(single, SPANS, HEADERS)
    backwards = score_with(single, SPANS[::-1], HEADERS, budget=8192)
    assert forwards.tobytes() == backwards[::-1].tobytes()
    assert np.abs(forwards - one_at_a_time(model, SPANS)).max() < 1e-5


# --- memory, by the way of a GPU ------------------------------------------------------------------


def refusing(student: Any, longest: int) -> tuple[Any, list[int]]:
    """A student whose rows are queued as on a GPU, with memory for so many tokens; and its rows."""
    rows: list[int] = []

    def log_probs(pack: Any) -> torch.Tensor:
        width = max(pack.width, 1)
        rows.append(-(-len(pack.ids) // width) * width)
        if rows[-1] > longest:
            raise torch.OutOfMemoryError("no memory left")
        found: torch.Tensor = student.log_probs(pack)
        return found

    return replace(student, device=torch.device("cuda"), log_probs=log_probs), rows


def test_a_sequence_is_not_lost_because_its_filling_finds_no_memory(
    student: Any, scores: Any
) -> None:
    span = SPANS[0]  # of 150 tokens, in a row that is filled up to 8192
    narrow, rows = refusing(student, 256)
    with closing(Scorer(narrow, HEADERS, batch_tokens=8192)) as scorer:
        found = scorer.nll([span])
        assert scorer.budget == 256 and scorer.halved
    assert np.abs(found - scores[0]).max() < 1e-5
    assert rows == [8192, 4096, 2048, 1024, 512, 256]


def test_what_is_too_long_has_no_score_and_its_neighbours_have_theirs(
    student: Any, scores: Any
) -> None:
    narrow, _ = refusing(student, 128)
    with closing(Scorer(narrow, HEADERS, batch_tokens=1024)) as scorer:
        found = scorer.nll(SPANS)
        reasons = scorer.too_large
    fits = np.array([len(span.ids) <= 128 for span in SPANS])
    assert np.abs(found - scores)[fits].max() < 1e-5
    assert np.isnan(found[~fits]).all()
    assert set(reasons) == {span.key for span in SPANS if len(span.ids) > 128}
    for span in SPANS:
        if len(span.ids) > 128:
            assert str(len(span.ids) - 1) in reasons[span.key]
            assert "no memory left" in reasons[span.key]


def test_a_device_that_fails_is_named(student: Any) -> None:
    def log_probs(_: Any) -> torch.Tensor:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure\nMore words.")

    gone = replace(student, device=torch.device("cuda:1"), log_probs=log_probs)
    with (
        closing(Scorer(gone, HEADERS, batch_tokens=256)) as scorer,
        pytest.raises(CurateError, match=r"cuda:1 failed .*launch failure\)"),
    ):
        scorer.nll(SPANS)
    assert not scorer.too_large


def test_results_that_find_no_memory_on_their_way_to_the_host(student: Any) -> None:
    class Stuck:
        is_cuda = False

        def double(self) -> None:
            raise torch.OutOfMemoryError("no memory left")

    stuck = replace(student, device=torch.device("cuda"), log_probs=lambda _: Stuck())
    with closing(Scorer(stuck, HEADERS, batch_tokens=64)) as scorer:
        assert np.isnan(scorer.nll(SPANS[:2])).all()


def test_the_first_target_is_scored_beside_the_mean(student: Any) -> None:
    firsts = [Span(span.ids[: span.start + 1], span.start) for span in SPANS]
    with closing(Scorer(student, HEADERS, batch_tokens=256)) as scorer:
        both = scorer.mean_and_first(SPANS)
        assert both[:, 0].tobytes() == scorer.nll(SPANS).tobytes()
        assert np.abs(both[:, 1] - scorer.nll(firsts)).max() < 1e-5
