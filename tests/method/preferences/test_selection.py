"""A record's rivals: the two branches of the response step."""

from typing import Any

from curate.pipeline.method.preferences.choosing import best_and_worst
from curate.pipeline.method.preferences.rivals import Rivals
from curate.pipeline.method.preferences.selection import record_rivals
from curate.pipeline.pair_records import PreferencePair, Unpaired
from curate.pipeline.records import Candidate, CandidateKind, Score


def candidate(
    kind: CandidateKind, output: str, instruction: str = "Why?", **more: Any
) -> Candidate:
    texts: dict[str, Any] = {"instruction": instruction, "input": "", "output": output}
    if more.get("status") not in (None, "unchanged"):
        texts = {}
    return Candidate(id="r1", candidate=kind, **texts, **more)


def score(kind: CandidateKind, given: float | None, alone: float = 2.0) -> Score:
    return Score(
        id="r1",
        candidate=kind,
        nll_instruction=alone,
        nll_instruction_given_response=given,
        rifd=None if given is None else 2.71828 ** (given - alone),
        rifd_status="ok" if given is not None else None,
    )


def outcomes(*candidates: Candidate, scores: list[Score]) -> list[PreferencePair | Unpaired]:
    record = {one.candidate: one for one in candidates}
    known = {one.candidate: one for one in scores}
    return [
        best_and_worst(found) if isinstance(found, Rivals) else found
        for found in record_rivals(record, known)
    ]


def test_the_lower_rifd_is_preferred_on_both_branches() -> None:
    first, second = outcomes(
        candidate("original", "a", system="Be brief."),
        candidate("instruction", "b", "How?"),
        candidate("response", "c", system="Be brief.", teacher="t", reply_key="k"),
        candidate("both", "d", "How?"),
        scores=[
            score("original", 1.5), score("response", 1.0),
            score("instruction", 0.5), score("both", 1.75),
        ],
    )  # fmt: skip
    assert isinstance(first, PreferencePair) and isinstance(second, PreferencePair)
    assert (first.chosen, first.rejected, first.margin) == ("c", "a", 0.5)
    assert first.chosen_score is not None and first.rejected_score is not None
    assert first.chosen_score < first.rejected_score
    assert (first.chosen_from.model, first.chosen_from.reply_key) == ("t", "k")
    assert [turn["role"] for turn in first.prompt] == ["system", "user"]
    assert (second.chosen, second.rejected, second.margin) == ("b", "d", 1.25)
    assert second.prompt[0]["content"] == "How?"


def test_every_branch_is_a_pair_or_a_reason() -> None:
    original = candidate("original", "a")
    both = [score("original", 1.0), score("response", 1.0)]

    def reasons(*more: Candidate, scores: list[Score] = both) -> list[str]:
        found = outcomes(original, *more, scores=scores)
        return [one.reason for one in found if isinstance(one, Unpaired)]

    assert reasons() == ["no_rival"]
    assert reasons(candidate("response", "b")) == ["tie"]
    assert reasons(candidate("response", "b"), scores=both[:1]) == ["unscored"]
    assert reasons(candidate("response", "a", status="unchanged")) == ["identical"]
    assert reasons(candidate("response", "", status="refused"), scores=[]) == ["refused"]
    assert reasons(candidate("response", "b", "How?")) == ["no_rival"]
    # The reflected instruction is there, the response to it is not.
    failed = candidate("both", "", status="failed")
    more = (candidate("response", "b"), candidate("instruction", "c", "How?"), failed)
    assert reasons(*more) == ["tie", "failed"]
    # Without the reflected instruction nothing competes on that branch.
    assert reasons(
        candidate("response", "b"), candidate("instruction", "", status="failed"), failed
    ) == ["tie"]
