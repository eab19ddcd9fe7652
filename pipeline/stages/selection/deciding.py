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
from ...records import DECISIONS_SCHEMA, Candidate, Decision, Score, user_turn
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
    pairs = [record.get(one.final) for record, one in zip(records, outcomes, strict=True)]
    final = [scored.get(one.final) for scored, one in zip(scores, outcomes, strict=True)]
    originals = [record.get("original") for record in records]
    before = [scored.get("original") for scored in scores]
    decisions = [one.decision for one in outcomes]
    columns: dict[str, list[Any]] = {
        "id": [next(iter(record.values())).id for record in records],
        "candidate": [one.final for one in outcomes],
        "reason": [one.reason for one in outcomes],
        **_rows(records, outcomes),
        "instruction_chars": [_instruction_chars(pair) for pair in pairs],
        "response_chars": [_response_chars(pair) for pair in pairs],
        "original_response_chars": [_response_chars(original) for original in originals],
        **{name: _values(final, name) for name in ("ifd", "rifd", "ifd_status", "rifd_status")},
        "log_ifd": [log_ratio(score, "ifd") for score in final],
        "log_rifd": [log_ratio(score, "rifd") for score in final],
        "original_ifd": _values(before, "ifd"),
        "original_rifd": _values(before, "rifd"),
        **{name: [getattr(one, name) for one in decisions] for name in Decision.__slots__},
    }
    return pa.table(columns, schema=DECISIONS_SCHEMA)


def _rows(records: Sequence[Record], outcomes: Sequence[Outcome]) -> dict[str, list[int | None]]:
    """Where each final pair and each original stands among the shard's candidates."""
    found: dict[str, list[int | None]] = {"row": [], "original_row": []}
    begin = 0
    for record, outcome in zip(records, outcomes, strict=True):
        places = {kind: begin + offset for offset, kind in enumerate(record)}
        found["row"].append(places.get(outcome.final))
        found["original_row"].append(places.get("original"))
        begin += len(record)
    return found


def _values(scores: Sequence[Score | None], name: str) -> list[Any]:
    return [None if score is None else getattr(score, name) for score in scores]


def _instruction_chars(pair: Candidate | None) -> int | None:
    if pair is None or pair.instruction is None:
        return None
    return len(pair.instruction) + len(pair.input or "")


def _response_chars(pair: Candidate | None) -> int | None:
    return None if pair is None or pair.output is None else len(pair.output)
