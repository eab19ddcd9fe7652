"""Prompts, samples of answers, preference pairs and what became none, with their Arrow schemas."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from .records import MESSAGES_TYPE, Message, system_turns, typed, user_turn

PairSource = Literal["selection", "verdicts", "ratings", "rso", "demonstrations"]
NoPair = Literal[
    "no_rival", "unparsed", "truncated", "refused", "failed", "empty", "unscored", "identical",
    "tie", "below_margin", "length", "contaminated",
]  # fmt: skip
"""Why answers to one prompt became no preference pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an answer comes from: a run's candidate, or the number of a sample."""

    candidate: str | None = None
    sample: int | None = None
    model: str | None = None
    reply_key: str | None = None

    @property
    def name(self) -> str:
        """Which of a prompt's answers this is, for a person."""
        return self.candidate or f"sample {self.sample}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What an answer follows: an instruction, perhaps with an input, a system and earlier turns."""

    instruction: str
    input: str = ""
    system: str | None = None
    history: Sequence[Message] = ()

    @property
    def turn(self) -> str:
        """The user's last turn."""
        return user_turn(self.instruction, self.input)

    @property
    def messages(self) -> list[Message]:
        """All turns."""
        last = {"role": "user", "content": self.turn}
        return [*system_turns(self.system), *self.history, last]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One of several answers to a prompt; `rating` is the mean of `ratings`, None without one.

    `rank` is people's, the smaller the better; files of samples do not hold it.
    """

    id: str
    prompt: Prompt
    output: str
    sample: int | None = None
    model: str | None = None
    finish_reason: str | None = None
    reply_key: str | None = None
    rating: float | None = None
    ratings: Sequence[float] = ()
    rating_reason: str | None = None
    rank: float | None = None

    def values(self) -> dict[str, Any]:
        """The row as a file of samples has it."""
        texts = {name: getattr(self.prompt, name) for name in ("instruction", "input", "system")}
        own = {name: getattr(self, name) for name in self.__slots__}
        return {name: (own | texts)[name] for name in SAMPLE_SCHEMA.names}


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferencePair:
    """Two answers to one prompt, one preferred.

    The scores are those of the source: r-IFDs of a selection (the lower one is preferred), a
    judge's means of verdicts, ratings of samples; demonstrations have none. `margin` is how far
    they are apart, of r-IFDs the difference of the logarithms; it is positive.
    """

    id: str
    prompt: Sequence[Message]
    chosen: str
    rejected: str
    source: PairSource
    margin: float | None
    chosen_score: float | None
    rejected_score: float | None
    chosen_from: Origin
    rejected_from: Origin
    near_tie: bool = False
    """The margin is smaller than rounding in half precision explains."""

    def values(self) -> dict[str, Any]:
        """The row as the data set's columns have it: the answers as messages."""
        row = {name: getattr(self, name) for name in PAIR_SCHEMA.names}
        for name in ("chosen", "rejected"):
            row[name] = [{"role": "assistant", "content": row[name]}]
            origin = row[f"{name}_from"]
            row[f"{name}_from"] = {key: getattr(origin, key) for key in Origin.__slots__}
        return row


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPair:
    """What a preference training reads of a pair."""

    id: str
    prompt: Prompt
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpaired:
    """Answers to one prompt that became no pair, and why; `answers` says which they were."""

    id: str
    reason: NoPair
    detail: str
    source: PairSource
    answers: Sequence[str] = ()
    margin: float | None = None

    def values(self) -> dict[str, Any]:
        """The row as the data set's columns have it."""
        return {name: getattr(self, name) for name in UNPAIRED_SCHEMA.names}


SAMPLE_SCHEMA = pa.schema(
    [
        *typed(pa.string(), "id"),
        *typed(pa.int64(), "sample"),
        *typed(pa.string(), "instruction", "input", "output", "system", "model", "finish_reason"),
        *typed(pa.string(), "reply_key"),
        *typed(pa.float64(), "rating"),
        pa.field("ratings", pa.list_(pa.float64())),
        *typed(pa.string(), "rating_reason"),
    ]
)
_ORIGIN_TYPE = pa.struct(
    [
        *typed(pa.string(), "candidate"),
        *typed(pa.int64(), "sample"),
        *typed(pa.string(), "model", "reply_key"),
    ]
)
PAIR_SCHEMA = pa.schema(
    [
        *typed(pa.string(), "id"),
        *(pa.field(name, MESSAGES_TYPE) for name in ("prompt", "chosen", "rejected")),
        *typed(pa.string(), "source"),
        *typed(pa.float64(), "margin", "chosen_score", "rejected_score"),
        *(pa.field(name, _ORIGIN_TYPE) for name in ("chosen_from", "rejected_from")),
        pa.field("near_tie", pa.bool_()),
    ]
)
UNPAIRED_SCHEMA = pa.schema(
    [
        *typed(pa.string(), "id", "reason", "detail", "source"),
        pa.field("answers", pa.list_(pa.string())),
        *typed(pa.float64(), "margin"),
    ]
)
