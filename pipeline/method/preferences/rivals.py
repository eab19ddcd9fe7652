"""Answers to one prompt that compete, and the pair that two of them make."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...pair_records import NoPair, Origin, PairSource, PreferencePair, Unpaired
from ...records import Message
from ..decision import NEAR


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer. `reward` is larger for the better one; `score` is the number that is shown."""

    text: str
    origin: Origin
    reward: float | None = None
    score: float | None = None
    variance: float = 0.0
    """Of the ratings whose mean the reward is."""
    fault: NoPair | None = None
    """Why the answer can be no side of a pair, whatever its reward."""

    def fault_for(self, *, rewarded: bool) -> NoPair | None:
        """Why the answer cannot be used; a reward that is not finite counts as none."""
        if self.fault is not None:
            return self.fault
        if not self.text.strip():
            return "empty"
        known = self.reward is not None and math.isfinite(self.reward)
        return "unscored" if rewarded and not known else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rivals:
    """All answers to one prompt, in the order in which they were made."""

    id: str
    prompt: Sequence[Message]
    answers: Sequence[Answer]
    source: PairSource

    def usable(self, *, rewarded: bool = True) -> list[Answer]:
        """The answers that have a text and, where asked for, a reward."""
        return [answer for answer in self.answers if answer.fault_for(rewarded=rewarded) is None]

    def unpaired(
        self,
        reason: NoPair,
        detail: str,
        *,
        answers: Iterable[Answer] | None = None,
        margin: float | None = None,
    ) -> Unpaired:
        """The row that says why these answers, all of them unless some are given, are no pair."""
        return Unpaired(
            id=self.id,
            reason=reason,
            detail=detail,
            source=self.source,
            answers=[one.origin.name for one in (self.answers if answers is None else answers)],
            margin=margin,
        )

    def too_few(self, *, rewarded: bool = True) -> Unpaired:
        """The reason where fewer than two answers can be used.

        A fault of an answer itself tells more than a reward that is missing, perhaps because of it.
        """
        if len(self.answers) < 2:
            return self.unpaired("no_rival", "there is one answer only, or none")
        faults = [(answer.fault_for(rewarded=rewarded), answer) for answer in self.answers]
        found = [(fault, answer.origin.name) for fault, answer in faults if fault is not None]
        fault, name = min(found, key=lambda one: one[0] == "unscored")
        usable = f"{len(faults) - len(found)} of {len(faults)} answers can be used"
        return self.unpaired(fault, f"{usable}; {name} is {fault}")

    def pair(self, chosen: Answer, rejected: Answer, *, noise: float = 0.0) -> PreferencePair:
        """The pair of these two; `noise` is the rounding noise of one mean NLL in nats.

        A margin of log r-IFDs is of four mean NLLs, which gives it a standard deviation of twice
        that.
        """
        margin = None
        if chosen.reward is not None and rejected.reward is not None:
            margin = chosen.reward - rejected.reward
        return PreferencePair(
            id=self.id,
            prompt=self.prompt,
            chosen=chosen.text,
            rejected=rejected.text,
            source=self.source,
            margin=margin,
            chosen_score=chosen.score,
            rejected_score=rejected.score,
            chosen_from=chosen.origin,
            rejected_from=rejected.origin,
            near_tie=margin is not None and margin < NEAR * 2 * noise,
        )


def same_text(first: Answer, second: Answer) -> bool:
    """Whether two answers differ in white space around them at most."""
    return first.text.strip() == second.text.strip()
