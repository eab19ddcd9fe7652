"""Trained models' answers to one set of questions, judged against the baseline model's."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...base.files import write_text
from ...base.progress import say
from ...base.tables import aligned, shown
from ...config import GenerateConfig, InputConfig, JudgeConfig, ModelConfig, PairwiseConfig
from ...errors import CurateError
from ...inputs.evaluation.questions import Question, read_questions
from ...inputs.ingest import Intake
from ...inputs.readers import open_source
from ...llm.job import check_model
from ...models.devices import release_memory
from ...records import Example, user_turn
from ...stages.generation.stage import generate
from ...stages.judging import Judged, judge


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """Where they are from, and a row each, no two of the same text."""

    source: str
    rows: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """One set's answers against the baseline's; a pair counts where both orders have a verdict."""

    wins: int
    ties: int
    losses: int
    winning_score: float | None
    interval: tuple[float, float] | None
    """Of the winning score: the bootstrap over the questions."""
    unparsed: int
    """Pairs that lack a verdict."""
    reasons: dict[str, int]
    unanswered: int
    """Questions that one of the two models did not answer."""
    asked: int
    reused: int
    verdicts: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """All sets against the baseline, of the trainings with one seed."""

    judge: str
    against: str
    seed: int
    source: str
    questions: int
    sets: dict[str, Against]


def checked_questions(config: PairwiseConfig, held_out: list[Example], source: str) -> Questions:
    """What will be asked; what is wrong with it or the judge's options is told before training."""
    check_model(config.judge)
    if config.questions is None:
        asked = [
            Question(id=one.id, turns=(one.instruction,), input=one.input, system=one.system)
            for one in held_out
        ]
        return _distinct(source, asked)
    data, intake = open_source(config.questions), Intake()
    found = read_questions(data, InputConfig(data=config.questions), intake)
    if intake.num_rejected:
        say(f"note: {intake.num_rejected} rows of {config.questions} ask nothing")
    return _distinct(data.name, found)


def _distinct(source: str, questions: Sequence[Question]) -> Questions:
    """Answers are matched by text, so equal questions are one."""
    rows: dict[str, dict[str, Any]] = {}
    for question in questions:
        rows.setdefault(user_turn(question.turns[0], question.input), _row(question))
    return Questions(source=source, rows=tuple(rows.values()))


def _row(question: Question) -> dict[str, Any]:
    """The first turn, as `read_questions` takes it."""
    asked: dict[str, Any] = {"instruction": question.turns[0]}
    if question.system:
        turns = (("system", question.system), ("user", question.turns[0]))
        asked = {"messages": [{"role": role, "content": text} for role, text in turns]}
    dataset = {"dataset": question.dataset} if question.dataset else {}
    return {"id": question.id, **asked, "input": question.input, **dataset}


def judge_models(
    config: PairwiseConfig,
    models: Mapping[str, Path],
    questions: Questions,
    *,
    against: str,
    seed: int,
    out: Path,
    device: str,
) -> Judgement:
    """Let every model answer in this process, and have the answers compared with `against`'s.

    Answers and verdicts are journaled in `out`, so that what is there is not asked again.
    """
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in questions.rows)
    folder = out / f"judged-{_digest(text)}"
    asked = folder / "questions.jsonl"
    write_text(asked, text)
    release_memory()  # the trainings keep nothing from the models that answer and judge
    answers = {
        name: _answered(config, asked, model, folder / f"{model.name}.jsonl", device)
        for name, model in models.items()
    }
    found, judged = {}, list[Judged]()
    for name in models:
        if name != against:
            say(f"judging {name} against {against}, seed {seed}: {len(questions.rows)} questions")
            asked_with = _within_budget(config.judge, judged)
            judged.append(_judged(asked_with, answers[name], answers[against]))
            found[name] = _summary(judged[-1], len(questions.rows))
    return Judgement(
        judge=config.judge.model or "recorded",
        against=against,
        seed=seed,
        source=questions.source,
        questions=len(questions.rows),
        sets=found,
    )


def _answered(config: PairwiseConfig, asked: Path, model: Path, out: Path, device: str) -> Path:
    say(f"answers of {model.name}: {out}")
    done = generate(
        GenerateConfig(
            input=InputConfig(data=str(asked)),
            model=ModelConfig(
                model=str(model),
                role="model",
                engine="transformers",
                concurrency=config.judge.concurrency,
                max_tokens=config.max_tokens,
                device=device,
            ),
            out=out,
        )
    )
    if not done.answers:
        why = next(iter(done.failed), "no question")
        raise CurateError(f"{model.name} answers none of the questions of {asked}: {why}")
    return out


def _within_budget(judge: ModelConfig, judged: Sequence[Judged]) -> ModelConfig:
    """The judge's options with what earlier comparisons left of the budget, which is for all."""
    tokens, cost = judge.max_total_tokens, judge.max_cost
    if tokens is not None:
        tokens = max(1, tokens - sum(sum(one.tokens) for one in judged))
    if cost is not None:
        cost = max(1e-9, cost - sum(one.cost or 0.0 for one in judged))
    return replace(judge, max_total_tokens=tokens, max_cost=cost)


def _judged(model: ModelConfig, first: Path, second: Path) -> Judged:
    """The verdicts' file is named after all that they depend on: new answers get a file of theirs.

    The journal is one for all, as the same pair may come again; a recorded reply has only the
    question's id, so there each file keeps its own.
    """
    contents = [path.read_text("utf-8") for path in (first, second)]
    about = [model.model, model.revision, model.engine, str(model.replies), *contents]
    out = first.with_name(f"{first.stem}-vs-{second.stem}-{_digest(json.dumps(about))}.json")
    journal = model.journal or (None if model.replies else first.parent / "journal")
    return judge(
        JudgeConfig(
            first=str(first),
            second=str(second),
            judge=replace(model, journal=journal),
            columns=InputConfig(data=str(first)),
            out=out,
        )
    )


def _summary(result: Judged, questions: int) -> Against:
    tally, outcome = result.outcome.tally, result.outcome
    return Against(
        wins=tally.wins,
        ties=tally.ties,
        losses=tally.losses,
        winning_score=tally.winning_score,
        interval=outcome.interval,
        unparsed=outcome.unparsed,
        reasons=outcome.reasons,
        unanswered=questions - tally.pairs - outcome.unparsed,
        asked=result.asked,
        reused=result.reused,
        verdicts=str(result.out),
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def judgement_lines(found: Judgement) -> Iterator[str]:
    """The table, and what its numbers are."""
    yield (
        f"answers judged by {found.judge} against those of `{found.against}`, trained with seed "
        f"{found.seed}, in both orders: {found.questions} questions ({found.source})"
    )
    yield "winning score: (wins - losses) / all + 1; 95 % interval: bootstrap over the questions"
    yield ""
    rows = [["trained on", "wins", "ties", "losses", "score"]]
    for name, row in found.sets.items():
        counts = map(str, (row.wins, row.ties, row.losses))
        rows.append([name, *counts, shown(row.winning_score, ".3f", row.interval)])
    yield from aligned(rows)
    for name, row in found.sets.items():
        if row.unanswered:
            yield f"{name}: {row.unanswered} questions without both answers"
        if row.unparsed:
            why = ", ".join(f"{number} {reason}" for reason, number in row.reasons.items())
            yield f"{name}: {row.unparsed} pairs without both verdicts ({why})"
