"""The decision: every rule, and the same choice whether scores are asked for or all there."""

import math
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.pipeline.method.decision import (
    NEAR,
    Outcome,
    Rules,
    decide,
    first_comparison,
    needs,
    surviving_branch,
    top,
    top_count,
)
from curate.pipeline.method.ifd import SideResult, with_side
from curate.pipeline.method.spans import SIDES, Side
from curate.pipeline.records import (
    CANDIDATES,
    Candidate,
    CandidateKind,
    CandidateStatus,
    Score,
    ScoreStatus,
)

Pairs = dict[CandidateKind, Candidate]
Scores = dict[CandidateKind, Score]
RULES = Rules()
FAILED: list[ScoreStatus] = ["empty", "overlong", "failed"]


def pairs_of(**statuses: CandidateStatus | None) -> Pairs:
    """All four candidates, `ok` where nothing else is said; None leaves one out."""
    wanted = {kind: statuses.get(kind, "ok") for kind in CANDIDATES}
    return {
        kind: Candidate(
            id="r", candidate=kind, instruction="x", input="", output="y", status=status
        )
        if status in ("ok", "unchanged")
        else Candidate(id="r", candidate=kind, status=status)
        for kind, status in wanted.items()
        if status is not None
    }


def side_of(score: Score, side: Side, ratio: float | ScoreStatus) -> Score:
    """A side's score from its ratio, or the status that it has instead."""
    if isinstance(ratio, str):
        return with_side(score, side, SideResult(math.nan, math.nan, ratio, 0))
    return with_side(score, side, SideResult(math.log(ratio), 0.0, "ok", 5))


def scores_of(ifd: Mapping[str, Any], rifd: Mapping[str, Any]) -> Scores:
    found: Scores = {}
    for side, ratios in zip(SIDES, (ifd, rifd), strict=True):
        for kind in CANDIDATES:
            if kind in ratios:
                blank = found.get(kind) or Score(id="r", candidate=kind)
                found[kind] = side_of(blank, side, ratios[kind])
    return found


def outcome_of(
    ifd: Mapping[str, Any],
    rifd: Mapping[str, Any],
    rules: Rules = RULES,
    **statuses: CandidateStatus | None,
) -> Outcome:
    return decide(pairs_of(**statuses), scores_of(ifd, rifd), rules)


GOOD_RIFD = {"original": 0.7, "instruction": 0.7, "response": 0.6, "both": 0.6}


# --- the instruction -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("original", "instruction", "rule", "branch"),
    [
        (0.5, 0.6, "ifd_rose", "instruction"),
        (0.6, 0.5, "ifd_fell", "original"),
        (0.5, 0.5, "ifd_tie", "original"),
        (1.5, 1.6, "ifd_rose", "instruction"),
        *[(0.5, status, "instruction_unscored", "original") for status in FAILED],
        *[(status, 0.5, "original_unscored", "instruction") for status in FAILED],
        *[(status, status, "neither_scored", "original") for status in FAILED],
    ],
)
def test_the_choice_of_the_instruction(
    original: Any, instruction: Any, rule: str, branch: CandidateKind
) -> None:
    scores = scores_of({"original": original, "instruction": instruction}, {})
    assert surviving_branch(pairs_of(), scores) == branch
    decision = decide(pairs_of(), scores).decision
    assert decision.instruction_rule == rule
    assert decision.ifd_original == scores["original"].ifd
    assert decision.ifd_instruction == scores["instruction"].ifd
    assert decision.ifd_original_status == scores["original"].ifd_status
    assert decision.ifd_instruction_status == scores["instruction"].ifd_status


def test_a_difference_too_small_for_the_ratio_decides_all_the_same() -> None:
    below = Score(id="r", candidate="original")
    first = with_side(below, "ifd", SideResult(800.0, 0.0, "ok", 1))  # exp overflows
    assert first.ifd_status == "failed"
    near = with_side(below, "ifd", SideResult(1e-17, 0.0, "ok", 1))
    tie = with_side(replace(below, candidate="instruction"), "ifd", SideResult(0.0, 0.0, "ok", 1))
    assert near.ifd == tie.ifd == 1.0
    assert surviving_branch(pairs_of(), {"original": tie, "instruction": near}) == "instruction"
    assert surviving_branch(pairs_of(), {"original": near, "instruction": tie}) == "original"


@pytest.mark.parametrize(
    ("original", "instruction", "rule", "branch"),
    [
        (0.7, 1.5, "instruction_not_below_max", "original"),
        (1.5, 0.7, "original_not_below_max", "instruction"),
        (1.0, 0.7, "original_not_below_max", "instruction"),
        (0.7, 0.9, "ifd_rose", "instruction"),
        (0.9, 0.7, "ifd_fell", "original"),
        (1.5, 1.6, "ifd_rose", "instruction"),
        (1.5, 1.5, "ifd_tie", "original"),
        ("failed", 1.5, "original_unscored", "instruction"),
        (1.5, "failed", "instruction_unscored", "original"),
    ],
)
def test_prefer_passing_keeps_what_the_filter_would_keep(
    original: Any, instruction: Any, rule: str, branch: CandidateKind
) -> None:
    rules = Rules(prefer_passing=True)
    scores = scores_of({"original": original, "instruction": instruction}, {})
    assert surviving_branch(pairs_of(), scores, rules) == branch
    assert decide(pairs_of(), scores, rules).decision.instruction_rule == rule
    wide = replace(rules, max_ifd=9.0)
    assert surviving_branch(pairs_of(), scores, wide) == surviving_branch(pairs_of(), scores)


@pytest.mark.parametrize("status", ["unparsed", "truncated", "refused", "failed", None])
def test_without_an_instruction_reflection_the_original_stays(status: Any) -> None:
    found = outcome_of({"original": 0.5, "response": 0.5}, GOOD_RIFD, instruction=status)
    assert found.decision.instruction_rule == "no_instruction_reflection"
    assert (found.final, found.reason) == ("response", None)


def test_a_score_of_an_invalid_candidate_wins_nothing() -> None:
    found = outcome_of(
        {"original": 0.5, "instruction": 0.9, "response": 0.5, "both": 0.5},
        GOOD_RIFD,
        instruction="unparsed",
        response="truncated",
    )
    assert (found.final, found.reason) == ("original", None)


@pytest.mark.parametrize("status", ["failed", None])
def test_a_missing_original_loses_to_a_scored_instruction(status: Any) -> None:
    ifd = {"instruction": 0.5, "both": 0.5}
    found = outcome_of(ifd, {"instruction": 0.7, "both": 0.6}, original=status)
    assert found.decision.instruction_rule == "original_unscored"
    assert (found.final, found.reason) == ("both", None)


# --- the response --------------------------------------------------------------------------------


@pytest.mark.parametrize("branch", ["original", "instruction"])
@pytest.mark.parametrize(
    ("before", "after", "rule", "replaced"),
    [
        (0.7, 0.6, "rifd_fell", True),
        (0.6, 0.7, "rifd_rose", False),
        (0.6, 0.6, "rifd_tie", False),
        *[(0.6, status, "response_unscored", False) for status in FAILED],
        *[(status, 0.6, "incumbent_unscored", True) for status in FAILED],
        *[(status, status, "neither_scored", False) for status in FAILED],
    ],
)
def test_the_choice_of_the_response(
    branch: CandidateKind, before: Any, after: Any, rule: str, replaced: bool
) -> None:
    challenger: CandidateKind = "response" if branch == "original" else "both"
    ifd = {"original": 0.5, "response": 0.5, "both": 0.5, "instruction": 0.4}
    ifd["instruction"] = 0.4 if branch == "original" else 0.6
    found = outcome_of(ifd, {branch: before, challenger: after})
    assert found.final == (challenger if replaced else branch)
    assert found.decision.response_rule == rule
    numbers = [value if isinstance(value, float) else None for value in (before, after)]
    assert [found.decision.rifd_incumbent, found.decision.rifd_challenger] == pytest.approx(numbers)


@pytest.mark.parametrize("status", ["unparsed", "truncated", "refused", "failed", None])
def test_without_a_response_reflection_the_branch_stays(status: Any) -> None:
    ifd = {"original": 0.5, "instruction": 0.6}
    found = outcome_of(ifd, {"instruction": 0.5, "response": 0.1}, both=status)
    assert found.decision.response_rule == "no_response_reflection"
    assert (found.final, found.reason) == ("instruction", None)


def test_an_unchanged_reflection_ties() -> None:
    scores = scores_of({"original": 0.5, "instruction": 0.5}, {"original": 0.6, "response": 0.6})
    statuses: dict[str, CandidateStatus | None] = {"instruction": "unchanged"}
    found = decide(pairs_of(**statuses, response="unchanged"), scores)
    assert (found.decision.instruction_rule, found.decision.response_rule) == (
        "ifd_tie",
        "rifd_tie",
    )
    assert (found.final, found.reason) == ("original", None)


# --- the filter ----------------------------------------------------------------------------------


def filtered(ifd: Any, rifd: Any, rules: Rules = RULES) -> tuple[str, str | None]:
    """The filter's code and reason for an original that stays."""
    found = outcome_of({"original": ifd}, {"original": rifd}, rules, instruction="failed",
                       response="failed", both="failed")  # fmt: skip
    assert found.final == "original"
    return found.decision.filter_rule, found.reason


def test_below_both_thresholds_is_kept() -> None:
    assert filtered(0.99, 0.99) == ("kept", None)


def test_thresholds_are_exclusive_at_exactly_one() -> None:
    assert filtered(1.0, 0.5)[0] == "ifd_not_below_max"
    assert filtered(0.5, 1.0)[0] == "rifd_not_below_max"
    assert filtered(math.nextafter(1.0, 0), math.nextafter(1.0, 0))[0] == "kept"


def test_thresholds_are_options_and_named_in_the_reason() -> None:
    rules = Rules(max_ifd=0.5, max_rifd=2.0)
    assert filtered(0.75, 1.5, rules) == ("ifd_not_below_max", "IFD 0.75 is not below 0.5")
    assert filtered(0.4, 2.5, rules) == ("rifd_not_below_max", "r-IFD 2.5 is not below 2")
    assert filtered(0.4, 1.5, rules) == ("kept", None)


@pytest.mark.parametrize("status", FAILED)
def test_an_unscored_final_pair_is_rejected_for_that(status: ScoreStatus) -> None:
    assert filtered(status, 0.5) == ("ifd_unscored", f"no IFD ({status})")
    assert filtered(0.5, status) == ("rifd_unscored", f"no r-IFD ({status})")
    assert filtered(2.0, status) == ("rifd_unscored", f"no r-IFD ({status})")


def test_a_record_without_any_pair_is_rejected() -> None:
    pairs = pairs_of(original="failed", instruction="failed", response="failed", both="failed")
    nothing = decide(pairs, {})
    assert (nothing.final, nothing.decision.filter_rule) == ("original", "ifd_unscored")
    assert nothing.reason == "no IFD (no pair)"


def test_only_improved_keeps_replaced_responses() -> None:
    ifd = {"original": 0.5, "instruction": 0.6, "both": 0.5}
    rules = Rules(only_improved=True)
    stays = outcome_of(ifd, {"instruction": 0.5, "both": 0.6}, rules)
    assert (stays.final, stays.decision.filter_rule) == ("instruction", "not_improved")
    assert stays.reason == "the response was not replaced"
    replaced = outcome_of(ifd, {"instruction": 0.6, "both": 0.5}, rules)
    assert (replaced.final, replaced.decision.filter_rule) == ("both", "kept")


# --- lazily and with everything at hand ----------------------------------------------------------

# Few values, so that ties are as common as anything.
ratios = st.sampled_from([0.5, 0.8, 0.9, 1.0, 1.2, *FAILED])
statuses = st.sampled_from(["ok", "ok", "ok", "unchanged", "failed", "unparsed", None])
records = st.fixed_dictionaries({kind: statuses for kind in CANDIDATES})
all_ratios = st.fixed_dictionaries({kind: st.tuples(ratios, ratios) for kind in CANDIDATES})
some_rules = st.builds(
    Rules,
    max_ifd=st.sampled_from([0.85, 1.0, 1.1]),
    max_rifd=st.sampled_from([0.85, 1.0, 1.1]),
    only_improved=st.booleans(),
    prefer_passing=st.booleans(),
)


def asked(pairs: Pairs, everything: Scores, rules: Rules = RULES) -> tuple[Scores, list[int]]:
    """Answer what `needs` asks, round after round; the scores it got and how many a round."""
    known: Scores = {}
    rounds = []
    while wanted := needs(pairs, known, rules):
        rounds.append(len(wanted))
        for kind, side in wanted:
            assert pairs[kind].valid
            source = everything[kind]
            names = [name for name in Score.__slots__ if belongs(name, side)]
            given = {name: getattr(source, name) for name in names}
            known[kind] = replace(known.get(kind) or Score(id="r", candidate=kind), **given)
        assert len(rounds) <= 3
    return known, rounds


def belongs(name: str, side: Side) -> bool:
    if side == "ifd":
        return name.startswith(("nll_response", "num_response", "ifd"))
    return name.startswith(("nll_instruction", "num_instruction", "rifd"))


def by_the_book(pairs: Pairs, ratio: Mapping[Any, Any], rules: Rules) -> tuple[str, bool]:
    """METHOD.md section 3, written again: the final pair and whether it is kept."""

    def number(kind: str, side: int) -> float | None:
        valid = kind in pairs and pairs[kind].valid
        return ratio[kind][side] if valid and isinstance(ratio[kind][side], float) else None

    def wins(challenger: float | None, incumbent: float | None, limit: float, sign: int) -> bool:
        if challenger is None or incumbent is None:
            return challenger is not None
        if rules.prefer_passing and (challenger < limit) != (incumbent < limit):
            return challenger < limit
        return sign * challenger > sign * incumbent

    rises = wins(number("instruction", 0), number("original", 0), rules.max_ifd, 1)
    branch, rewritten = ("instruction", "both") if rises else ("original", "response")
    replaced = wins(number(rewritten, 1), number(branch, 1), rules.max_rifd, -1)
    final = rewritten if replaced else branch
    ifd, rifd = number(final, 0), number(final, 1)
    kept = ifd is not None and rifd is not None and ifd < rules.max_ifd and rifd < rules.max_rifd
    return final, kept and (replaced or not rules.only_improved)


@given(records, all_ratios, some_rules)
@settings(max_examples=300, deadline=None)
def test_asking_leads_where_knowing_everything_leads(
    given: Any, ratio: Mapping[str, tuple[Any, Any]], rules: Rules
) -> None:
    pairs = pairs_of(**given)
    everything = scores_of(
        {kind: pair[0] for kind, pair in ratio.items() if kind in pairs and pairs[kind].valid},
        {kind: pair[1] for kind, pair in ratio.items() if kind in pairs and pairs[kind].valid},
    )
    known, rounds = asked(pairs, everything, rules)
    assert decide(pairs, known, rules) == decide(pairs, everything, rules)
    assert sum(rounds) <= 5
    assert not needs(pairs, everything, rules)
    final, kept = by_the_book(pairs, ratio, rules)
    found = decide(pairs, known, rules)
    assert (found.final, found.reason is None) == (final, kept)


def test_the_rounds_of_a_whole_record() -> None:
    pairs = pairs_of()
    assert needs(pairs, {}) == {("original", "ifd"), ("instruction", "ifd")}
    assert first_comparison(pairs, {}) == needs(pairs, {})
    rose = scores_of({"original": 0.5, "instruction": 0.6}, {})
    assert needs(pairs, rose) == {("instruction", "rifd"), ("both", "rifd")}
    fell = scores_of({"original": 0.6, "instruction": 0.5}, {})
    assert needs(pairs, fell) == {("original", "rifd"), ("response", "rifd")}
    ifd = {"original": 0.5, "instruction": 0.6}
    assert needs(pairs, scores_of(ifd, {"instruction": 0.7, "both": 0.6})) == {("both", "ifd")}
    assert not needs(pairs, scores_of(ifd, {"instruction": 0.6, "both": 0.7}))


def test_originals_alone_are_asked_for_both_sides() -> None:
    pairs = pairs_of(instruction=None, response=None, both=None)
    assert first_comparison(pairs, {}) == frozenset()
    known, rounds = asked(pairs, scores_of({"original": 0.5}, {"original": 0.5}))
    assert rounds == [1, 1]
    assert decide(pairs, known).reason is None


@pytest.mark.parametrize(
    ("difference", "near"), [(0.0, False), (1e-9, True), (0.011, True), (0.013, False)]
)
def test_a_comparison_within_the_noise_is_marked(difference: float, near: bool) -> None:
    ifd = {"original": 0.5, "instruction": 0.4, "response": 0.5}
    scores = scores_of(ifd, {"original": 0.6})
    challenger = with_side(
        scores["response"], "rifd", SideResult(math.log(0.6) + difference, 0, "ok", 1)
    )
    scores["response"] = challenger
    rules = Rules(noise=0.012 / (2 * NEAR))
    assert decide(pairs_of(), scores, rules).decision.near_tie is near
    assert not decide(pairs_of(), scores).decision.near_tie
    swapped = {"original": 0.5, "instruction": 0.5 * math.exp(difference)}
    found = outcome_of(swapped, {"original": 0.6, "instruction": 0.6}, rules)
    assert found.decision.near_tie is near
    assert (
        found.final
        == decide(pairs_of(), scores_of(swapped, {"original": 0.6, "instruction": 0.6})).final
    )


# --- the budget ----------------------------------------------------------------------------------


def best(budget: str, by: Side, **ratios: float) -> set[str]:
    ids, values = list(ratios), [math.log(ratio) for ratio in ratios.values()]
    places = top(pa.array(ids, pa.string()), pa.array(values, pa.float64()), budget, by=by)
    return {ids[place] for place in places.to_pylist()}


def test_top_takes_the_highest_ifd_or_the_lowest_rifd() -> None:
    rows = {"a": 0.5, "b": 0.7, "c": 0.6}
    assert best("2", "ifd", **rows) == {"b", "c"}
    assert best("1", "rifd", **rows) == {"a"}
    assert best("0", "ifd", **rows) == set() == best("2%", "ifd")
    assert best("99", "ifd", **rows) == {"a", "b", "c"}


@pytest.mark.parametrize("by", SIDES)
def test_ties_are_broken_by_id_whatever_the_order(by: Side) -> None:
    rows = {"c": 0.5, "a": 0.5, "b": 0.5, "é": 0.5, "\U0001f600": 0.5, "\ufffd": 0.5}
    backwards = dict(reversed(rows.items()))
    for number in range(len(rows) + 1):
        first = set(sorted(rows)[:number])
        assert best(str(number), by, **rows) == best(str(number), by, **backwards) == first


@pytest.mark.parametrize(
    ("budget", "rows", "count"),
    [
        ("2%", 100, 2),
        ("2%", 149, 2),
        ("2%", 10, 1),  # at least one
        ("2%", 0, 0),
        ("0%", 100, 0),
        ("100%", 7, 7),
        ("33.3%", 1000, 333),
        ("0.1%", 1000, 1),
        ("7%", 100, 7),  # 0.07 * 100 is 7.000000000000001 in floats
        ("29%", 100, 29),  # 0.29 * 100 is 28.999999999999996
        ("1000", 5, 5),
        ("3", 5, 3),
        ("0", 5, 0),
    ],
)
def test_how_many_a_budget_admits(budget: str, rows: int, count: int) -> None:
    assert top_count(budget, rows) == count


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_a_share_is_exact(hundredths: int, rows: int) -> None:
    count = top_count(f"{hundredths // 100}.{hundredths % 100:02}%", rows)
    exact = Fraction(hundredths, 10_000) * rows
    assert count == (math.floor(exact) if exact >= 1 or not exact else 1)
