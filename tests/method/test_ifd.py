"""NLLs -> ratios: logarithms where they are compared, a status for every score."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.pipeline.method.ifd import SideResult, log_ratio, with_side
from curate.pipeline.method.spans import SIDES, Side
from curate.pipeline.records import Score, ScoreStatus

BLANK = Score(id="1", candidate="original")
NLL: dict[Side, tuple[str, str]] = {
    "ifd": ("nll_response_given_instruction", "nll_response"),
    "rifd": ("nll_instruction_given_response", "nll_instruction"),
}
TOKENS = {"ifd": "num_response_tokens", "rifd": "num_instruction_tokens"}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("status", ["ok", "truncated"])
def test_a_valid_score(side: Side, status: ScoreStatus) -> None:
    score = with_side(BLANK, side, SideResult(1.0, 1.5, status, 7))
    conditional, alone = NLL[side]
    assert getattr(score, conditional) == 1.0
    assert getattr(score, alone) == 1.5
    assert getattr(score, side) == math.exp(-0.5)
    assert getattr(score, f"{side}_status") == status
    assert getattr(score, f"{side}_reason") is None
    assert getattr(score, TOKENS[side]) == 7
    assert log_ratio(score, side) == -0.5


@pytest.mark.parametrize("side", SIDES)
def test_one_side_leaves_the_other_alone(side: Side) -> None:
    other: Side = "rifd" if side == "ifd" else "ifd"
    first = with_side(BLANK, side, SideResult(1.0, 1.5, "ok", 7))
    both = with_side(first, other, SideResult(math.nan, math.nan, "overlong", 0))
    assert getattr(both, side) == getattr(first, side)
    assert getattr(both, f"{side}_status") == "ok"
    assert getattr(both, f"{other}_status") == "overlong"
    assert log_ratio(both, other) is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None])
@pytest.mark.parametrize("broken", ["conditional", "alone", "both"])
def test_what_is_not_finite_is_failed_and_null(bad: float | None, broken: str) -> None:
    conditional = 1.0 if broken == "alone" else bad
    alone = 1.0 if broken == "conditional" else bad
    score = with_side(BLANK, "ifd", SideResult(conditional, alone, "ok", 3))
    assert score.ifd_status == "failed"
    assert score.ifd_reason
    assert score.ifd is None
    assert score.nll_response_given_instruction == (1.0 if broken == "alone" else None)
    assert score.nll_response == (1.0 if broken == "conditional" else None)
    assert log_ratio(score, "ifd") is None


def test_a_ratio_too_large_for_a_float_is_failed_not_infinite() -> None:
    score = with_side(BLANK, "rifd", SideResult(2000.0, 1.0, "ok", 3))
    assert (score.rifd_status, score.rifd) == ("failed", None)
    assert score.nll_instruction_given_response == 2000.0


@pytest.mark.parametrize("status", ["empty", "overlong", "failed"])
def test_no_number_stands_for_missing(status: ScoreStatus) -> None:
    score = with_side(BLANK, "ifd", SideResult(math.nan, 2.0, status, 0))
    assert (score.ifd, score.ifd_status) == (None, status)
    assert score.nll_response_given_instruction is None
    assert score.nll_response == 2.0  # the four NLLs are null independently
    assert log_ratio(score, "ifd") is None


def test_a_valid_status_without_numbers_is_never_a_score() -> None:
    assert log_ratio(None, "ifd") is None
    assert log_ratio(BLANK, "ifd") is None


@given(st.floats(0, 100), st.floats(0, 100))
def test_the_ratio_is_that_of_the_perplexities(conditional: float, alone: float) -> None:
    score = with_side(BLANK, "ifd", SideResult(conditional, alone, "ok", 1))
    assert score.ifd is not None
    assert math.isclose(score.ifd, math.exp(conditional) / math.exp(alone), rel_tol=1e-12)
