"""`curate judge`: two models' answers compared in both orders, or recorded judgements counted."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.progress import say
from ..config import JudgeConfig
from ..errors import TeacherFailure
from ..inputs.answers import AnswerPair, Matched, match_answers
from ..inputs.judgments import VERDICTS, read_log, write_verdicts
from ..llm.ask import Asking, answer_all, let_go_on_error, open_asking, together
from ..llm.engines.choose import make_teacher
from ..llm.engines.recorded import slot_of
from ..llm.journal import request_key
from ..llm.protocol import Reply, Request, Teacher
from ..method.judge_results import (
    ORDERS,
    Outcome,
    PairOutcome,
    PreferenceOutcome,
    RatingOutcome,
    pair_outcome,
    preference_outcome,
    rating_outcome,
    verdict_of,
)
from ..method.tally import Tally
from ..method.verdicts import ASKED, RECORDED, Scale, pair_verdict
from ..records import CandidateStatus, user_turn
from ..run.directory import RunDir, folder_beside
from ..run.lock import run_lock
from ..templates import JudgePrompt, judge_prompt

KINDS = {"": "forward", "_reverse": "reverse"}
"""What a request in either order is called in the journal and in recorded replies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The outcome, where the verdicts lie, and what was asked for."""

    outcome: PairOutcome
    models: tuple[str, str]
    left: tuple[int, int]
    """Rows of A and of B without a counterpart."""
    out: Path
    asked: int
    reused: int

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            **self.outcome.as_dict(),
            "models": self.models,
            "unmatched": self.left,
            "verdicts": str(self.out),
        }


def judge(config: JudgeConfig) -> Judged:
    """Ask for every verdict that the journal does not hold, and count them.

    Raises BudgetReached, or CurateError when the judge cannot be had, with all that was paid for
    kept.
    """
    matched = match_answers(config.first, config.second, config.columns, config.questions)
    teacher = make_teacher(config.judge, kinds=tuple(KINDS.values()))
    prompt = judge_prompt()
    with let_go_on_error(teacher):
        identity = _identity(config, matched, teacher, prompt)
        folder, file = _places(config, identity)
        run = RunDir.create(folder, identity)
    with run.discarded_if_empty(), run_lock(run.path, "judge"):
        journal = config.judge.journal or run.path / "journal"
        with let_go_on_error(teacher):
            asking = open_asking(teacher, config.judge, journal=journal, run=run.config["id"])
        rows = answer_all(
            asking,
            matched.pairs,
            _Judge(config, asking, prompt).row,
            at_once=config.judge.concurrency,
            stage="judge",
            unit="pairs",
        )
        about = {"model_1": matched.models[0], "model_2": matched.models[1], "scale": ASKED}
        write_verdicts(file, rows, about | identity)
    return Judged(
        outcome=pair_outcome(rows, ASKED),
        models=matched.models,
        left=matched.left,
        out=file,
        asked=asking.tally.asked,
        reused=asking.tally.from_journal,
    )


def recompute(path: Path) -> Outcome:
    """The outcome of recorded judgements, read from their texts; the rows tell their kind."""
    log = read_log(path)
    if log.kind == "preferences":
        return preference_outcome(log.rows)
    if log.kind == "ratings":
        return rating_outcome(log.rows)
    return pair_outcome(log.rows, _scale(log.about.get("scale")))


def _scale(given: Any) -> Scale:
    numbers = isinstance(given, list) and [x for x in given if isinstance(x, int | float)]
    return (numbers[0], numbers[1]) if numbers and len(numbers) == 2 else RECORDED


def _identity(
    config: JudgeConfig, matched: Matched, teacher: Teacher, prompt: JudgePrompt
) -> dict[str, Any]:
    columns = config.columns
    return {
        "command": "judge",
        "answers": [source.fingerprint for source in matched.sources],
        "columns": [columns.instruction_column, columns.input_column, columns.output_column],
        "judge": teacher.name,
        "revision": teacher.revision,
        "prompt": prompt.version,
        "temperature": config.judge.temperature,
        "seed": config.judge.seed,
    }


def _places(config: JudgeConfig, identity: dict[str, Any]) -> tuple[Path, Path]:
    """The run's folder and the file of verdicts: inside it, or beside it where a file is named."""
    if config.out is None:
        digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:8]
        names = (Path(data).name.partition(".")[0] or "data" for data in _data(config))
        folder = Path(f"judged-{'-vs-'.join(names)}-{digest}")
        say(f"judge: the verdicts go to {folder} (--out names another place)")
        return folder, folder / VERDICTS
    if config.out.is_dir() or not config.out.suffix:
        return config.out, config.out / VERDICTS
    return folder_beside(config.out), config.out


def _data(config: JudgeConfig) -> tuple[str, str]:
    return config.first, config.second


class _Judge:
    """Asks for both orders of a pair."""

    def __init__(self, config: JudgeConfig, asking: Asking, prompt: JudgePrompt) -> None:
        self._config, self._asking, self._prompt = config.judge, asking, prompt

    async def row(self, pair: AnswerPair) -> dict[str, Any]:
        """The pair with its two reviews, as the log has it."""
        row: dict[str, Any] = {"id": pair.id, "instruction": pair.instruction}
        row |= {"input": pair.input} if pair.input else {}
        row |= {"category": pair.category} if pair.category else {}
        row |= {"Answer1": pair.answers[0], "Answer2": pair.answers[1]}
        for part in await together(self._order(pair, order) for order in ORDERS):
            row |= part
        return row

    async def _order(self, pair: AnswerPair, order: str) -> dict[str, Any]:
        part: dict[str, Any] = {f"review{order}": None}
        try:
            reply = await self._asking.reply(self._request(pair, order), _status)
            part = {f"review{order}": reply.text, f"finish_reason{order}": reply.finish_reason}
        except TeacherFailure as error:
            part[f"failure{order}"] = str(error)
        scores = verdict_of(part, order, ASKED).scores
        return part | {f"scores{order}": list(scores) or None}

    def _request(self, pair: AnswerPair, order: str) -> Request:
        first, second = pair.answers
        answers = (second, first) if order else (first, second)
        messages = self._prompt.messages(user_turn(pair.instruction, pair.input), answers)
        config, teacher = self._config, self._asking.teacher
        key = request_key(
            model=teacher.name,
            revision=teacher.revision,
            messages=messages,
            prompt_version=self._prompt.version,
            temperature=config.temperature,
            seed=config.seed,
            slot=slot_of(self._asking.teacher, pair.id, KINDS[order]),
        )
        return Request(
            id=pair.id,
            candidate=KINDS[order],
            messages=messages,
            max_tokens=config.max_tokens,
            temperature=config.temperature,
            seed=config.seed,
            key=key,
        )


def _status(reply: Reply) -> CandidateStatus:
    return pair_verdict(reply.text, finish_reason=reply.finish_reason, scale=ASKED).status


# --- in words -------------------------------------------------------------------------------------


def in_words(outcome: Outcome) -> Iterator[str]:
    """A table for people."""
    if isinstance(outcome, PairOutcome):
        yield from _pairs_in_words(outcome)
    elif isinstance(outcome, PreferenceOutcome):
        yield from _preferences_in_words(outcome)
    else:
        yield from _ratings_in_words(outcome)


def _pairs_in_words(outcome: PairOutcome) -> Iterator[str]:
    rows = {"all": outcome.tally, **outcome.categories}
    width = max(map(len, rows))
    yield f"{'':{width}}  {'wins':>5} {'ties':>5} {'losses':>6}  winning score"
    for name, tally in rows.items():
        interval = _interval(outcome.interval, ".3f") if name == "all" else ""
        yield f"{name:{width}}  {_counts(tally)}  {_number(tally.winning_score, '.3f')}{interval}"
    yield from _missing("pairs without both verdicts", outcome.unparsed, outcome.reasons)


def _preferences_in_words(outcome: PreferenceOutcome) -> Iterator[str]:
    error = _number(outcome.standard_error, ".3f")
    yield (
        f"win rate {_number(outcome.win_rate, '.3f')} % (standard error {error})"
        f"{_interval(outcome.interval, '.3f')}: {outcome.tally.wins} wins, "
        f"{outcome.tally.losses} losses, {outcome.tally.ties} draws"
    )
    for name, rate in outcome.categories.items():
        yield f"  {name}: {rate:.3f} %"
    yield from _missing("annotations without a preference", outcome.unparsed, {})


def _ratings_in_words(outcome: RatingOutcome) -> Iterator[str]:
    for name, rating in outcome.models.items():
        turns = ", ".join(f"turn {turn} {mean:.3f}" for turn, mean in rating.turns.items())
        yield (
            f"{name}: mean {rating.mean:.3f}{_interval(rating.interval, '.3f')} of "
            f"{rating.rated} ratings; {turns}"
        )
    yield from _missing("judgements without a rating", outcome.unparsed, outcome.reasons)


def _counts(tally: Tally) -> str:
    return f"{tally.wins:5} {tally.ties:5} {tally.losses:6}"


def _interval(interval: tuple[float, float] | None, form: str) -> str:
    return f" [95 %: {interval[0]:{form}} to {interval[1]:{form}}]" if interval else ""


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _missing(what: str, number: int, reasons: dict[str, int]) -> Iterator[str]:
    if number:
        yield f"{what}: {number}"
    for reason, count in reasons.items():
        yield f"  {count} {reason}"
