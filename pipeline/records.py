"""Example, Candidate, Score, Decision and their Arrow schemas: the only home of column names."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import pyarrow as pa

CandidateKind = Literal["original", "instruction", "response", "both"]
CandidateStatus = Literal["ok", "unparsed", "truncated", "refused", "unchanged", "failed"]
ScoreStatus = Literal["ok", "truncated", "empty", "overlong", "failed"]

CANDIDATES: tuple[CandidateKind, ...] = get_args(CandidateKind)
REFLECTIONS: tuple[CandidateKind, ...] = CANDIDATES[1:]
CANDIDATE_STATUSES: tuple[CandidateStatus, ...] = get_args(CandidateStatus)
RETRYABLE: tuple[CandidateStatus, ...] = ("failed", "unparsed", "truncated", "refused")
NO_PAIR = "no instruction pair"
"""Why a `both` failed for which nothing was asked."""


Message = Mapping[str, str]
"""One turn of a chat: `role` and `content`."""


def user_turn(instruction: str, input: str) -> str:
    """Instruction and input as one user turn: joined by a newline where there is an input."""
    return f"{instruction}\n{input}" if input else instruction


def system_turns(system: str | None) -> list[Message]:
    """The system turn, if there is one."""
    return [{"role": "system", "content": system}] if system else []


def conversation(
    turns: Sequence[str],
    answers: Sequence[str],
    *,
    input: str,
    system: str | None,
    history: Sequence[Message] = (),
) -> list[Message]:
    """The questions so far as chat messages behind the history; the input is the first one's."""
    messages = [*system_turns(system), *history]
    for number, turn in enumerate(turns):
        text = user_turn(turn, input if number == 0 else "")
        messages.append({"role": "user", "content": text})
        if number < len(answers):
            messages.append({"role": "assistant", "content": answers[number]})
    return messages


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One training record: instruction x (with an optional input) and response y.

    `history` are the user's and the assistant's turns before x, in turn; `system` stands before.
    """

    id: str
    instruction: str
    input: str = ""
    output: str
    system: str | None = None
    history: tuple[Message, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    input_row: int | None = field(default=None, compare=False)
    """The number of its row in the input, from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One version of a record. The three texts are all present (`ok`, `unchanged`) or all None."""

    id: str
    candidate: CandidateKind
    instruction: str | None = None
    input: str | None = None
    output: str | None = None
    status: CandidateStatus = "ok"
    reason: str | None = None
    teacher: str | None = None
    reply_key: str | None = None
    system: str | None = None
    history: tuple[Message, ...] = ()
    extra: str | None = None  # the input's further columns, as a JSON object; `original` only
    input_row: int | None = field(default=None, compare=False)  # from 0; None of a model's reply

    @property
    def valid(self) -> bool:
        """Whether there is a pair to score."""
        return self.status in ("ok", "unchanged")


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The four mean NLLs (nats a token) of one candidate and what follows from them.

    The first tokens' NLLs are those of the conditional passes.
    IFD = exp(nll_response_given_instruction - nll_response), r-IFD likewise of the instruction.
    None where not scored; a status is None where that side was not asked for.
    """

    id: str
    candidate: CandidateKind
    nll_response: float | None = None
    nll_response_given_instruction: float | None = None
    nll_instruction: float | None = None
    nll_instruction_given_response: float | None = None
    nll_first_response_token: float | None = None
    nll_first_instruction_token: float | None = None
    num_response_tokens: int | None = None
    num_instruction_tokens: int | None = None
    ifd: float | None = None
    rifd: float | None = None
    ifd_status: ScoreStatus | None = None
    rifd_status: ScoreStatus | None = None
    ifd_reason: str | None = None
    rifd_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What selection did with one record: the rule of each step and the scores it compared."""

    instruction_rule: str
    response_rule: str
    filter_rule: str
    ifd_original: float | None = None
    ifd_original_status: ScoreStatus | None = None
    ifd_instruction: float | None = None
    ifd_instruction_status: ScoreStatus | None = None
    rifd_incumbent: float | None = None
    rifd_incumbent_status: ScoreStatus | None = None
    rifd_challenger: float | None = None
    rifd_challenger_status: ScoreStatus | None = None
    near_tie: bool = False
    """A comparison was closer than rounding in half precision explains."""


def typed(type: pa.DataType, *names: str) -> list[pa.Field]:
    """Arrow fields of one type."""
    return [pa.field(name, type) for name in names]


MESSAGES_TYPE = pa.list_(pa.struct(typed(pa.string(), "role", "content")))
CANDIDATE_SCHEMA = pa.schema(
    [
        *typed(
            pa.string(), "id", "candidate", "instruction", "input", "output", "status", "reason"
        ),
        *typed(pa.string(), "teacher", "reply_key", "system", "extra"),
        *typed(pa.int64(), "input_row"),
        pa.field("history", MESSAGES_TYPE),
    ]
)
SCORE_SCHEMA = pa.schema(
    [
        *typed(pa.string(), "id", "candidate"),
        *typed(pa.float64(), "nll_response", "nll_response_given_instruction"),
        *typed(pa.float64(), "nll_instruction", "nll_instruction_given_response"),
        *typed(pa.int64(), "num_response_tokens", "num_instruction_tokens"),
        *typed(pa.float64(), "ifd", "rifd"),
        *typed(pa.string(), "ifd_status", "rifd_status", "ifd_reason", "rifd_reason"),
        *typed(pa.float64(), "nll_first_response_token", "nll_first_instruction_token"),
    ]
)
DECISION_TYPE = pa.struct(
    [
        *typed(pa.string(), "instruction_rule", "response_rule", "filter_rule"),
        *(
            pa.field(name, pa.string() if name.endswith("_status") else pa.float64())
            for name in Decision.__slots__
            if name.startswith(("ifd", "rifd"))
        ),
        pa.field("near_tie", pa.bool_()),
    ]
)
DECISIONS_SCHEMA = pa.schema(
    [
        *typed(pa.string(), "id", "candidate", "reason", "ifd_status", "rifd_status"),
        *typed(pa.int64(), "row", "original_row", "instruction_chars", "response_chars"),
        *typed(pa.int64(), "original_response_chars"),
        *typed(pa.float64(), "ifd", "rifd", "log_ifd", "log_rifd", "original_ifd", "original_rifd"),
        *DECISION_TYPE,
    ]
)
"""A row a record. `row` and `original_row` are the places of its final pair and of its original in
the shard of candidates, the latter's length null without texts. No `reason`: it is kept."""
SELECTED_SCHEMA = pa.schema(
    [
        *typed(pa.string(), "id", "instruction", "input", "output"),
        pa.field("messages", MESSAGES_TYPE),
        *typed(pa.string(), "candidate"),
        *typed(pa.float64(), "ifd", "rifd"),
        pa.field("decision", DECISION_TYPE),
    ]
)
REJECTED_SCHEMA = SELECTED_SCHEMA.append(pa.field("reason", pa.string()))


def to_table(given: Iterable[Any], schema: pa.Schema) -> pa.Table:
    """Dataclass rows as an Arrow table; the schema's names are the attributes' names."""
    rows = list(given)
    return pa.table(
        {name: [getattr(row, name) for row in rows] for name in schema.names}, schema=schema
    )


def candidates_from(table: pa.Table) -> list[Candidate]:
    """The inverse of `to_table` for candidates."""
    names = [name for name in CANDIDATE_SCHEMA.names if name in table.column_names]
    return [candidate_from(row) for row in table.select(names).to_pylist()]


def candidate_from(row: Mapping[str, Any]) -> Candidate:
    """A candidate from its fields' values."""
    return Candidate(**{**row, "history": tuple(row.get("history") or ())})


def scores_from(table: pa.Table) -> list[Score]:
    """The inverse of `to_table` for scores."""
    return [Score(**row) for row in table.select(SCORE_SCHEMA.names).to_pylist()]
