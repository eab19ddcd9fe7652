"""`curate judge`: two models' answers compared in both orders, or recorded judgements counted."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..base.progress import say
from ..base.tables import aligned, shown
from ..config import JudgeConfig
from ..errors import RequestFailed
from ..inputs.evaluation.answers import AnswerPair, Matched, match_answers
from ..inputs.evaluation.judgments import VERDICTS, read_log, write_verdicts
from ..llm.ask import Asker
from ..llm.job import asking_job, together
from ..llm.protocol import Engine, Reply
from ..method.replies.verdicts import ASKED, Verdict, pair_verdict, recorded_scale
from ..method.statistics.judge_results import (
    ORDERS,
    Outcome,
    PairOutcome,
    PreferenceOutcome,
    RatingOutcome,
    pair_outcome,
    preference_outcome,
    rating_outcome,
)
from ..records import user_turn
from ..runs.directory import RunDir, folder_beside
from ..templates import asking_turn, prompts_version

PROMPT = "judge_pair"
SLOTS = {"": "forward", "_reverse": "reverse"}
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
    tokens: tuple[int, int]
    """Prompt and completion tokens, over all invocations."""
    cost: float | None
    """USD, likewise; None where no price is known."""

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            **self.outcome.as_dict(),
            "models": self.models,
            "unmatched": self.left,
            "verdicts": str(self.out),
        }


def judge(config: JudgeConfig) -> Judged:
    """Ask for every verdict that the journal does not hold, and count them."""
    matched = match_answers(config.first, config.second, config.columns, config.questions)
    with asking_job(
        config.judge,
        "judge",
        create_run=partial(_create_run, config, matched),
        version=prompts_version(PROMPT),
        slots=tuple(SLOTS.values()),
    ) as job:
        rows = job.for_each(matched.pairs, _Judge(job.asker).row, unit="pairs")
        file = job.run.path / VERDICTS if _is_folder(config.out) else config.out
        assert file is not None
        about = {"model_1": matched.models[0], "model_2": matched.models[1], "scale": ASKED}
        write_verdicts(file, rows, about | job.run.config["identity"])
    counts, budget = job.asker.counts, job.asker.budget
    return Judged(
        outcome=pair_outcome(rows, ASKED),
        models=matched.models,
        left=matched.left,
        out=file,
        asked=counts.asked,
        reused=counts.from_journal,
        tokens=budget.spent,
        cost=budget.cost,
    )


def recompute(path: Path) -> Outcome:
    """The outcome of recorded judgements, read from their texts; the rows tell their kind."""
    log = read_log(path)
    if log.kind == "preferences":
        return preference_outcome(log.rows)
    if log.kind == "ratings":
        return rating_outcome(log.rows)
    return pair_outcome(log.rows, recorded_scale(log.about))


def _create_run(config: JudgeConfig, matched: Matched, engine: Engine) -> RunDir:
    columns = config.columns
    identity = {
        "command": "judge",
        "answers": [source.fingerprint for source in matched.sources],
        "columns": [columns.instruction_column, columns.input_column, columns.output_column],
        "judge": engine.name,
        "revision": engine.revision,
        "prompt": prompts_version(PROMPT),
        **config.judge.sampling,
    }
    return RunDir.create(_folder(config, identity), identity)


def _folder(config: JudgeConfig, identity: dict[str, Any]) -> Path:
    """The run's folder: the one named, beside the file that is, or one named after the answers."""
    if config.out is not None:
        return config.out if _is_folder(config.out) else folder_beside(config.out)
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:8]
    names = (Path(data).name.partition(".")[0] or "data" for data in (config.first, config.second))
    folder = Path(f"judged-{'-vs-'.join(names)}-{digest}")
    say(f"judge: the verdicts go to {folder} (--out names another place)")
    return folder


def _is_folder(out: Path | None) -> bool:
    return out is None or out.is_dir() or not out.suffix


class _Judge:
    """Asks for both orders of a pair."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    async def row(self, pair: AnswerPair) -> dict[str, Any]:
        """The pair with its two reviews, as the log has it."""
        row: dict[str, Any] = {"id": pair.id, "instruction": pair.instruction}
        row |= {"input": pair.input} if pair.input else {}
        row |= {"category": pair.category} if pair.category else {}
        row |= {"Answer1": pair.answers[0], "Answer2": pair.answers[1]}
        for part in await together(self._review(pair, order) for order in ORDERS):
            row |= part
        return row

    async def _review(self, pair: AnswerPair, order: str) -> dict[str, Any]:
        first, second = pair.answers
        answers = (second, first) if order else (first, second)
        instruction = user_turn(pair.instruction, pair.input)
        messages = asking_turn(
            PROMPT, instruction=instruction, answer_1=answers[0], answer_2=answers[1]
        )
        part: dict[str, Any]
        try:
            found = await self._asker.ask(messages, id=pair.id, slot=SLOTS[order], read=_verdict)
        except RequestFailed as error:
            part = {"review": None, "failure": str(error), "scores": None}
        else:
            scores = list(found.reading.scores) or None
            reply = found.reply
            part = {"review": reply.text, "finish_reason": reply.finish_reason, "scores": scores}
        return {f"{name}{order}": value for name, value in part.items()}


def _verdict(reply: Reply) -> Verdict:
    return pair_verdict(reply.text, finish_reason=reply.finish_reason, scale=ASKED)


# --- as text --------------------------------------------------------------------------------------


def outcome_lines(outcome: Outcome) -> Iterator[str]:
    """A table for people."""
    if isinstance(outcome, PairOutcome):
        yield from _pair_lines(outcome)
    elif isinstance(outcome, PreferenceOutcome):
        yield from _preference_lines(outcome)
    else:
        yield from _rating_lines(outcome)


def _pair_lines(outcome: PairOutcome) -> Iterator[str]:
    rows = [["", "wins", "ties", "losses", "winning score"]]
    for name, tally in {"all": outcome.tally, **outcome.categories}.items():
        score = shown(tally.winning_score, ".3f", outcome.interval if name == "all" else None)
        rows.append([name, str(tally.wins), str(tally.ties), str(tally.losses), score])
    yield from aligned(rows)
    yield from _missing("pairs without both verdicts", outcome.unparsed, outcome.reasons)


def _preference_lines(outcome: PreferenceOutcome) -> Iterator[str]:
    rate, tally = shown(outcome.win_rate, ".3f", outcome.interval), outcome.tally
    yield (
        f"win rate in %: {rate}, standard error {shown(outcome.standard_error, '.3f')}: "
        f"{tally.wins} wins, {tally.losses} losses, {tally.ties} draws"
    )
    for name, part in outcome.categories.items():
        yield f"  {name}: {part:.3f} %"
    yield from _missing("annotations without a preference", outcome.unparsed, {})


def _rating_lines(outcome: RatingOutcome) -> Iterator[str]:
    for name, rating in outcome.models.items():
        turns = ", ".join(f"turn {turn} {mean:.3f}" for turn, mean in rating.turns.items())
        yield (
            f"{name}: mean {shown(rating.mean, '.3f', rating.interval)} of {rating.rated} "
            f"ratings; {turns}"
        )
    yield from _missing("judgements without a rating", outcome.unparsed, outcome.reasons)


def _missing(what: str, number: int, reasons: dict[str, int]) -> Iterator[str]:
    if number:
        yield f"{what}: {number}"
    for reason, count in reasons.items():
        yield f"  {count} {reason}"
