"""What a pair must hold to stay one: its margin, the ratio of its lengths, no evaluation text."""

from dataclasses import dataclass

from ...pair_records import NoPair, PreferencePair, Unpaired
from ..corpus.decontamination import EvaluationIndex
from .lengths import length_ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFilter:
    """The limits; None leaves one out."""

    min_margin: float | None = None
    max_length_ratio: float | None = None
    evaluation: EvaluationIndex | None = None

    def applied(self, pair: PreferencePair) -> PreferencePair | Unpaired:
        """The pair, or why it is none."""
        least, margin = self.min_margin, pair.margin
        if least is not None and margin is not None and margin < least:
            return unpaired(pair, "below_margin", f"the margin {margin:.4g} is below {least:g}")
        if self.max_length_ratio is not None:
            ratio = length_ratio(pair.chosen, pair.rejected)
            if ratio > self.max_length_ratio:
                detail = f"one answer is {ratio:.4g} times as long as the other"
                return unpaired(pair, "length", detail)
        hit = self._repeated(pair)
        return pair if hit is None else unpaired(pair, "contaminated", hit)

    def _repeated(self, pair: PreferencePair) -> str | None:
        """What of an evaluation set stands in the prompt or in an answer."""
        if self.evaluation is None:
            return None
        for text in (*(turn["content"] for turn in pair.prompt), pair.chosen, pair.rejected):
            hit = self.evaluation.find(text)
            if hit is not None:
                return hit.reason
        return None


def unpaired(pair: PreferencePair, reason: NoPair, detail: str) -> Unpaired:
    """The row that says why a pair is left out."""
    return Unpaired(
        id=pair.id,
        reason=reason,
        detail=detail,
        source=pair.source,
        answers=[pair.chosen_from.name, pair.rejected_from.name],
        margin=pair.margin,
    )
