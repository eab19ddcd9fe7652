"""Which version of a record to keep, and by which rule (METHOD section 3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ..config import RankBy
from ..records import Candidate, CandidateKind, Decision, Score
from .ifd import log_ratio
from .spans import Side

NEAR = 4.0
"""Standard deviations of rounding noise within which a comparison is a near tie."""

Scores = Mapping[CandidateKind, Score]
Needs = frozenset[tuple[CandidateKind, Side]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The thresholds of the filter, both exclusive, and the rounding noise of a mean NLL (nats).

    With `prefer_passing` a version whose IFD is not below its threshold loses the first comparison
    to one whose is. In the second the lower r-IFD wins, which is below if the higher one is.
    """

    max_ifd: float = 1.0
    max_rifd: float = 1.0
    only_improved: bool = False
    prefer_passing: bool = False
    noise: float = 0.0


RULES = Rules()


@dataclass(frozen=True, slots=True)
class Outcome:
    """The final pair of a record; `reason` says why it is not kept, None if it is."""

    final: CandidateKind
    decision: Decision
    reason: str | None


@dataclass(frozen=True, slots=True)
class _Step:
    """One comparison: who stays and why. Codes name what happened, not who won."""

    challenger_wins: bool
    rule: str


def needs(pairs: Mapping[CandidateKind, Candidate], scores: Scores, rules: Rules = RULES) -> Needs:
    """The scores that the next step of the decision waits for; empty when it can be taken.

    Asked again after each round of scoring: first the two IFDs, then the r-IFDs of the surviving
    branch, then the IFD of the final pair if no comparison took it.
    """
    wanted = first_comparison(pairs, scores)
    if wanted:
        return wanted
    branch, challenger = _branch(pairs, scores, rules)
    rivals = _rivals(pairs, branch, challenger) or frozenset({branch} & _valid(pairs))
    wanted = _missing(rivals, "rifd", scores)
    if wanted:
        return wanted
    final = challenger if _respond(pairs, scores, branch, challenger).challenger_wins else branch
    return _missing(frozenset({final} & _valid(pairs)), "ifd", scores)


def first_comparison(pairs: Mapping[CandidateKind, Candidate], scores: Scores) -> Needs:
    """The scores that the choice of the instruction waits for."""
    return _missing(_rivals(pairs, "original", "instruction"), "ifd", scores)


def decide(
    pairs: Mapping[CandidateKind, Candidate], scores: Scores, rules: Rules = RULES
) -> Outcome:
    """Both comparisons and the filter. Expects `needs` to be empty.

    Ties, and a challenger without a score, keep the incumbent; an incumbent without a score loses
    to a scored challenger; if neither has one the incumbent stays.
    """
    instruct = _instruct(pairs, scores, rules)
    branch, challenger = _branches(instruct)
    respond = _respond(pairs, scores, branch, challenger)
    final = challenger if respond.challenger_wins else branch
    code, reason = _filter(scores.get(final), rules, improved=respond.challenger_wins)
    # What was not compared is not shown: asking lazily may not know it.
    first = scores if _rivals(pairs, "original", "instruction") else {}
    decision = Decision(
        instruction_rule=instruct.rule,
        response_rule=respond.rule,
        filter_rule=code,
        **_compared("original", first, "ifd", "ifd_original"),
        **_compared("instruction", first, "ifd", "ifd_instruction"),
        **_compared(branch, scores, "rifd", "rifd_incumbent"),
        **_compared(challenger, scores, "rifd", "rifd_challenger"),
        near_tie=_near_tie(scores, "ifd", ("original", "instruction"), rules.noise)
        or _near_tie(scores, "rifd", (branch, challenger), rules.noise),
    )
    return Outcome(final, decision, reason)


def surviving_branch(
    pairs: Mapping[CandidateKind, Candidate], scores: Scores, rules: Rules = RULES
) -> CandidateKind:
    """The winner of the first comparison: `original` or `instruction`."""
    return _branch(pairs, scores, rules)[0]


def top(ids: pa.Array, ratios: pa.Array, budget: str, *, by: RankBy = "ifd") -> pa.Array:
    """The places of the rows within the budget: `2%` (rounded down, at least one) or a number.

    `ratios` are logarithms of IFDs, of which the highest are taken, or of r-IFDs, of which the
    lowest are; ties by id.

    >>> top(pa.array(["a", "b"]), pa.array([-0.7, -0.4]), "50%").to_pylist()
    [1]
    """
    order = "descending" if by == "ifd" else "ascending"
    ranked = pc.sort_indices(
        pa.table({"ratio": ratios, "id": ids}), sort_keys=[("ratio", order), ("id", "ascending")]
    )
    return ranked[: top_count(budget, len(ids))]


def top_count(budget: str, rows: int) -> int:
    """How many of `rows` a budget (checked already) admits."""
    if not budget.endswith("%"):
        return min(int(budget), rows)
    share = Fraction(budget.removesuffix("%")) / 100
    return max(int(share * rows), min(rows, 1) if share else 0)


def _valid(pairs: Mapping[CandidateKind, Candidate]) -> frozenset[CandidateKind]:
    return frozenset(kind for kind, candidate in pairs.items() if candidate.valid)


def _rivals(
    pairs: Mapping[CandidateKind, Candidate], a: CandidateKind, b: CandidateKind
) -> frozenset[CandidateKind]:
    """Both sides of a comparison, or nobody where there is nothing to compare with."""
    valid = _valid(pairs)
    return frozenset((a, b)) & valid if b in valid else frozenset()


def _missing(kinds: frozenset[CandidateKind], side: Side, scores: Scores) -> Needs:
    return frozenset(
        (kind, side)
        for kind in kinds
        if kind not in scores or getattr(scores[kind], f"{side}_status") is None
    )


def _instruct(pairs: Mapping[CandidateKind, Candidate], scores: Scores, rules: Rules) -> _Step:
    if "instruction" not in _valid(pairs):
        return _Step(False, "no_instruction_reflection")
    original = log_ratio(scores.get("original"), "ifd")
    reflected = log_ratio(scores.get("instruction"), "ifd")
    if reflected is None:
        return _Step(False, "neither_scored" if original is None else "instruction_unscored")
    if original is None:
        return _Step(True, "original_unscored")
    if rules.prefer_passing:
        old, new = (_passes(scores[kind], rules) for kind in ("original", "instruction"))
        if old != new:
            return _Step(new, "original_not_below_max" if new else "instruction_not_below_max")
    if reflected == original:
        return _Step(False, "ifd_tie")
    return _Step(True, "ifd_rose") if reflected > original else _Step(False, "ifd_fell")


def _passes(score: Score, rules: Rules) -> bool:
    """Whether a scored IFD is below its threshold."""
    return score.ifd is not None and score.ifd < rules.max_ifd


def _branch(
    pairs: Mapping[CandidateKind, Candidate], scores: Scores, rules: Rules
) -> tuple[CandidateKind, CandidateKind]:
    """The surviving pair and the challenger of its response."""
    return _branches(_instruct(pairs, scores, rules))


def _branches(instruct: _Step) -> tuple[CandidateKind, CandidateKind]:
    return ("instruction", "both") if instruct.challenger_wins else ("original", "response")


def _respond(
    pairs: Mapping[CandidateKind, Candidate],
    scores: Scores,
    branch: CandidateKind,
    challenger: CandidateKind,
) -> _Step:
    if challenger not in _valid(pairs):
        return _Step(False, "no_response_reflection")
    before = log_ratio(scores.get(branch), "rifd")
    after = log_ratio(scores.get(challenger), "rifd")
    if after is None:
        return _Step(False, "neither_scored" if before is None else "response_unscored")
    if before is None:
        return _Step(True, "incumbent_unscored")
    if after == before:
        return _Step(False, "rifd_tie")
    return _Step(True, "rifd_fell") if after < before else _Step(False, "rifd_rose")


def _filter(score: Score | None, rules: Rules, *, improved: bool) -> tuple[str, str | None]:
    """The filter's code and, where the row is not kept, the reason."""
    limits: tuple[tuple[Side, str, float], ...] = (
        ("ifd", "IFD", rules.max_ifd),
        ("rifd", "r-IFD", rules.max_rifd),
    )
    for side, name, _ in limits:
        if log_ratio(score, side) is None:
            status = getattr(score, f"{side}_status", None) or "no pair"
            return f"{side}_unscored", f"no {name} ({status})"
    for side, name, limit in limits:
        value = getattr(score, side)
        if not value < limit:
            return f"{side}_not_below_max", f"{name} {value:.4g} is not below {limit:g}"
    if rules.only_improved and not improved:
        return "not_improved", "the response was not replaced"
    return "kept", None


def _near_tie(
    scores: Scores, side: Side, rivals: tuple[CandidateKind, CandidateKind], noise: float
) -> bool:
    """Whether four NLLs, each with this noise, leave the order of two unequal ratios open."""
    a, b = (log_ratio(scores.get(kind), side) for kind in rivals)
    return a is not None and b is not None and 0 < abs(a - b) < NEAR * 2 * noise


def _compared(kind: CandidateKind, scores: Scores, side: Side, name: str) -> dict[str, Any]:
    score = scores.get(kind)
    return {
        name: getattr(score, side, None),
        f"{name}_status": getattr(score, f"{side}_status", None),
    }
