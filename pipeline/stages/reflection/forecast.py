"""What a reflection would ask for and cost, before it is asked: an estimate, as text."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ...base.progress import duration
from ...config import ModelConfig
from ...llm.protocol import Reply
from ...records import Candidate, CandidateKind
from ...templates import TeacherPrompts
from .reflector import messages_for

CRITIQUE = 150  # tokens that a reply's critique is taken to have
GROWTH = 1.5  # a reply's texts are taken to be so much longer than the record's own
LETTERS = 4  # characters a token


Find = Callable[[CandidateKind, Candidate], tuple[Reply | None, Candidate] | None]
"""What need not be asked: the reply, if there is one, and the candidate; None where it must."""


@dataclass(slots=True)
class Forecast:
    """Calls to make and the tokens they may use; `paid` replies are in the journal."""

    prompts: TeacherPrompts
    find: Find
    records: int = 0
    calls: int = 0
    paid: int = 0
    prompt: int = 0
    completion: int = 0
    _seconds: float = 0.0
    _measured: int = 0

    @property
    def seconds(self) -> float | None:
        """Mean seconds from request to reply, of the paid ones that say so."""
        return self._seconds / self._measured if self._measured else None

    def add(self, original: Candidate, *, selective: bool) -> None:
        """Count one record's three reflections, or two, of the instruction and a response."""
        self.records += 1
        instruction = self._reflect("instruction", original)
        self._reflect("response", original)
        if selective:
            return
        if instruction is None:
            self._call("both", original)  # of a pair that there is not yet
        elif instruction.valid:
            self._reflect("both", instruction)

    def _reflect(self, kind: CandidateKind, pair: Candidate) -> Candidate | None:
        found = self.find(kind, pair)
        if found is None:
            self._call(kind, pair)
            return None
        reply, candidate = found
        self.paid += reply is not None
        if reply is not None and reply.seconds is not None:
            self._seconds += reply.seconds
            self._measured += 1
        return candidate

    def _call(self, kind: CandidateKind, pair: Candidate) -> None:
        self.calls += 1
        self.prompt += len(messages_for(kind, pair, self.prompts)[0]["content"]) // LETTERS
        texts = [pair.output] if kind != "instruction" else [pair.instruction, pair.output]
        own = sum(len(text or "") for text in texts)
        self.completion += CRITIQUE + int(GROWTH * own) // LETTERS


def forecast(
    originals: Iterable[Candidate], prompts: TeacherPrompts, find: Find, *, selective: bool
) -> Forecast:
    """The forecast of all records."""
    total = Forecast(prompts, find)
    for original in originals:
        total.add(original, selective=selective)
    return total


def forecast_text(total: Forecast, config: ModelConfig, cost: str) -> str:
    """What is printed."""
    lines = [
        f"{total.records:,} records, {total.calls:,} calls, about {total.prompt:,} prompt tokens "
        f"and {total.completion:,} completion tokens (an estimate), {cost}"
    ]
    if total.paid:
        lines.append(
            f"{total.paid:,} replies are in the journal already and are not paid for again"
        )
    return "\n".join([*lines, f"time: {_time(total, config)}"])


def _time(total: Forecast, config: ModelConfig) -> str:
    """The longest of what the rates allow and what the paid replies took."""
    if config.batch_api:
        return "up to 24 h for each of two rounds of batch jobs, the second of what the first gives"
    took: list[tuple[float, str]] = []
    if config.rpm:
        took.append((60 * total.calls / config.rpm, f"at --rpm {config.rpm:g}"))
    if config.tpm:
        tokens = total.prompt + total.completion
        took.append((60 * tokens / config.tpm, f"at --tpm {config.tpm:g}"))
    if total.seconds is not None:
        pace = f"at {config.concurrency} at once and {total.seconds:.1f} s a reply, as measured"
        took.append((total.calls * total.seconds / config.concurrency, pace))
    if not took:
        return "not known before the first replies"
    longest, why = max(took)
    return f"{'about' if total.seconds is not None else 'at least'} {duration(longest)} {why}"


def projected(spent: int, before: int, *, answered: int, left: int) -> int | None:
    """The total once `left` more replies have come, by what the `answered` ones used a reply.

    >>> projected(500, 100, answered=4, left=10)
    1500
    """
    return spent + (spent - before) * left // answered if answered else None
