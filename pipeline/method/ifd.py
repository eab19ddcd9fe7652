"""Mean NLLs -> IFD and r-IFD with a status each (METHOD section 2)."""

import math
from dataclasses import dataclass, replace

from ..records import Score, ScoreStatus
from .spans import Side


@dataclass(frozen=True, slots=True)
class SideResult:
    """What scoring one side of a candidate gave: mean NLLs in nats, NaN where a pass had no token.

    `status` is what a finite score deserves (`ok`, `truncated`), or why there can be none.
    `nll_first_token` is that of the conditional pass's first target; `reason` says why NLLs that
    should be there are not, where that is known.
    """

    nll_conditional: float | None
    nll_unconditional: float | None
    status: ScoreStatus
    num_tokens: int
    nll_first_token: float | None = None
    reason: str | None = None


def log_ratio(score: Score | None, side: Side) -> float | None:
    """log IFD = NLL(y|T(x)) - NLL(y), or log r-IFD; None without a valid score.

    Comparisons take these logarithms: they keep the order of the ratios and cannot overflow.
    """
    if score is None or getattr(score, f"{side}_status") not in ("ok", "truncated"):
        return None
    if side == "ifd":
        conditional, alone = score.nll_response_given_instruction, score.nll_response
    else:
        conditional, alone = score.nll_instruction_given_response, score.nll_instruction
    assert conditional is not None and alone is not None
    return conditional - alone


def with_side(score: Score, side: Side, result: SideResult) -> Score:
    """The score with one side filled in; a value that is not finite makes it `failed`.

    >>> s = Score(id="1", candidate="original")
    >>> round(with_side(s, "ifd", SideResult(1.0, 1.5, "ok", 7)).ifd, 4)
    0.6065
    """
    conditional, alone = _finite(result.nll_conditional), _finite(result.nll_unconditional)
    status, reason, ratio = result.status, None, None
    if status in ("ok", "truncated"):
        ratio = _ratio(conditional, alone)
        if ratio is None:
            status = "failed"
            reason = result.reason or "the student's probabilities are not finite"
    if side == "ifd":
        return replace(
            score,
            nll_response_given_instruction=conditional,
            nll_response=alone,
            nll_first_response_token=_finite(result.nll_first_token),
            num_response_tokens=result.num_tokens,
            ifd=ratio,
            ifd_status=status,
            ifd_reason=reason,
        )
    return replace(
        score,
        nll_instruction_given_response=conditional,
        nll_instruction=alone,
        nll_first_instruction_token=_finite(result.nll_first_token),
        num_instruction_tokens=result.num_tokens,
        rifd=ratio,
        rifd_status=status,
        rifd_reason=reason,
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _ratio(conditional: float | None, alone: float | None) -> float | None:
    if conditional is None or alone is None:
        return None
    try:
        return math.exp(conditional - alone)
    except OverflowError:
        return None
