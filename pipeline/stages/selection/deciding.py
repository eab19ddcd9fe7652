"""Records and their scores -> the table of decisions, and what was counted on the way."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pyarrow as pa

from ...config import SelectConfig
from ...method.corpus.decontamination import EvaluationIndex, Hit
from ...method.decision import Outcome, Rules, decide, needs
from ...method.first_token import FirstTokens
from ...method.ifd import log_ratio
from ...records import DECISIONS_SCHEMA, Candidate, Decision, user_turn
from ...scoring.engine import Record, Scored, Wanted


def rules_of(config: SelectConfig) -> Rules:
    """The rules that a configuration names, without the noise."""
    return Rules(
        max_ifd=config.max_ifd,
        max_rifd=config.max_rifd,
        only_improved=config.only_improved,
        prefer_passing=config.prefer_passing,
    )


def wanted(config: SelectConfig) -> Wanted | None:
    """Which scores the decision waits for; None where all are scored, which the engine knows."""
    return None if config.scoring.score_all else partial(needs, rules=rules_of(config))


@dataclass(slots=True)
class Decider:
    """Decides by the rules, then rejects what repeats an evaluation text; counts both inputs."""

    rules: Rules
    noise: Callable[[], float]
    """The rounding noise of a mean NLL (nats), known once a shard is scored."""
    evaluation: EvaluationIndex
    records: int = 0
    candidates: Counter[str] = field(default_factory=Counter)
    scores: Counter[str] = field(default_factory=Counter)
    first_tokens: FirstTokens = field(default_factory=FirstTokens)
    contaminated: Counter[str] = field(default_factory=Counter)
    """Rejected records by evaluation set."""

    def decide(self, records: Sequence[Record], scores: Sequence[Scored]) -> pa.Table:
        """The decisions on a shard of candidates."""
        self.records += len(records)
        self.candidates.update(f"{c.candidate} {c.status}" for r in records for c in r.values())
        self.scores.update(statuses(scores))
        for scored in scores:
            for score in scored.values():
                self.first_tokens.add(score)
        rules = replace(self.rules, noise=self.noise())
        outcomes = [self._outcome(*pair, rules) for pair in zip(records, scores, strict=True)]
        return decision_table(records, scores, outcomes)

    def _outcome(self, record: Record, scored: Scored, rules: Rules) -> Outcome:
        outcome = decide(record, scored, rules)
        if outcome.reason is not None or not len(self.evaluation):
            return outcome
        hit = repeated_text(record[outcome.final], self.evaluation)
        if hit is None:
            return outcome
        self.contaminated[hit.source] += 1
        decision = replace(outcome.decision, filter_rule="contaminated")
        return replace(outcome, decision=decision, reason=hit.reason)

    def counts(self) -> dict[str, Any]:
        """As the manifest has them."""
        counts: dict[str, Any] = {
            "records": self.records,
            "candidates": dict(self.candidates),
            "scores": dict(self.scores),
            "first_token": self.first_tokens.summary(),
        }
        compared, short = len(self.evaluation), self.evaluation.too_short
        if compared or short:
            counts["contaminated"] = dict(self.contaminated)
            counts["evaluation_texts"] = {"compared": compared, "short": short}
        return counts


def statuses(scores: Iterable[Scored]) -> Iterable[str]:
    """The status of each side that was asked for."""
    for scored in scores:
        for score in scored.values():
            yield from filter(None, (score.ifd_status, score.rifd_status))


def repeated_text(pair: Candidate, evaluation: EvaluationIndex) -> Hit | None:
    """Where the instruction, the response or an earlier turn repeats an evaluation text."""
    asked = user_turn(pair.instruction or "", pair.input or "")
    texts = [asked, pair.output or "", *(turn["content"] for turn in pair.history)]
    return next(filter(None, map(evaluation.find, texts)), None)


def decision_table(
    records: Sequence[Record], scores: Sequence[Scored], outcomes: Sequence[Outcome]
) -> pa.Table:
    """The rows of `DECISIONS_SCHEMA`, in the order of the records."""
    rows, begin = [], 0
    for record, scored, outcome in zip(records, scores, outcomes, strict=True):
        rows.append(_row(record, scored, outcome, begin))
        begin += len(record)
    return pa.Table.from_pylist(rows, schema=DECISIONS_SCHEMA)


def _row(record: Record, scored: Scored, outcome: Outcome, begin: int) -> dict[str, Any]:
    """A record's row; its candidates stand in the shard from `begin` on."""
    places = {kind: begin + offset for offset, kind in enumerate(record)}
    pair, original = record.get(outcome.final), record.get("original")
    score, before = scored.get(outcome.final), scored.get("original")
    scores = ("ifd", "rifd", "ifd_status", "rifd_status")
    return {
        "id": next(iter(record.values())).id,
        "candidate": outcome.final,
        "reason": outcome.reason,
        "row": places.get(outcome.final),
        "original_row": places.get("original"),
        "instruction_chars": _chars(pair, "instruction", "input"),
        "response_chars": _chars(pair, "output"),
        "original_response_chars": _chars(original, "output"),
        **{name: getattr(score, name, None) for name in scores},
        "log_ifd": log_ratio(score, "ifd"),
        "log_rifd": log_ratio(score, "rifd"),
        "original_ifd": getattr(before, "ifd", None),
        "original_rifd": getattr(before, "rifd", None),
        **{name: getattr(outcome.decision, name) for name in Decision.__slots__},
    }


def _chars(pair: Candidate | None, *names: str) -> int | None:
    """The length of these texts together; None where the first one is absent."""
    texts = [getattr(pair, name, None) for name in names]
    return None if texts[0] is None else sum(len(text or "") for text in texts)
