"""Measures an iteration: its samples and pairs, and its model on what no iteration saw."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ...base.files import intact_parquet, write_json
from ...config import ModelConfig
from ...method.loops.measures import Measures, Wins, of_answers, of_samples
from ...method.statistics.judge_exam import JudgeExam, judge_exam
from ...method.statistics.judge_results import PairOutcome
from ...runs.directory import RunDir
from ...runs.loop import ANSWERS, MEASURED, RATINGS, iteration_of
from ...stages.judging import recompute
from .iteration import Loop, answer, judge_options, own_judge, rate_by_rubric
from .material import samples_of

HELD_OUT_ANSWERS, SCORES = "held_out/answers.parquet", "held_out/scores.parquet"
EXAM = "exam/rated.parquet"


def before_training(loop: Loop, number: int) -> Measures:
    """What samples and pairs tell, before a model is trained on them."""
    run = iteration_of(loop.run, number)
    paired = run.stage("pair") or {}
    pairs, left_out = paired["pairs"], paired["left_out"]
    tied, same, all = left_out.get("tie", 0), left_out.get("identical", 0), sum(left_out.values())
    rated = run.path / RATINGS
    return Measures(
        iteration=number,
        prompts=(run.stage("prompts") or {})["prompts"],
        pairs=pairs,
        trained_on=(run.stage("mix") or {})["rows"],
        left_out=left_out,
        ties=tied / (pairs + tied) if pairs + tied else None,
        identical=same / (pairs + all) if pairs + all else None,
        **of_samples(samples_of(rated if rated.exists() else run.path / ANSWERS)),
    )


def measure(loop: Loop, number: int) -> dict[str, Any]:
    """Write `measured.json`."""
    found = before_training(loop, number) if number else Measures(iteration=0)
    if loop.material.held_out.exists():
        found = replace(found, **_on_held_out(loop, number))
        if loop.config.held_out_judge is not None and number:
            found = replace(found, **_judged(loop, loop.config.held_out_judge, number))
    if loop.config.exam is not None:
        found = replace(found, exam=_examined(loop, loop.config.exam, number))
    write_json(iteration_of(loop.run, number).path / MEASURED, asdict(found))
    return {}


def _examined(loop: Loop, ranked: str, number: int) -> JudgeExam | None:
    """How the model rates answers that people ranked; files of ratings do not hold the ranks."""
    out = iteration_of(loop.run, number).path / EXAM
    out.parent.mkdir(exist_ok=True)
    rate_by_rubric(loop, own_judge(loop, number), ranked, out)
    both = zip(samples_of(out), samples_of(ranked), strict=True)
    return judge_exam(replace(rated, rank=known.rank) for rated, known in both)


def _on_held_out(loop: Loop, number: int) -> dict[str, Any]:
    run, model = iteration_of(loop.run, number), loop.model(number)
    answers, scores = run.path / HELD_OUT_ANSWERS, run.path / SCORES
    asked = loop.material.held_out_prompts
    answer(loop, model, asked, answers, samples=1, temperature=0.0, seed=loop.seed)
    loop.calls(
        "score",
        data=loop.material.held_out,
        student=model,
        template=loop.template,
        device=loop.config.training.device,
        out=scores,
    )
    return {"held_out_loss": _loss(scores), **of_answers(samples_of(answers))}


def _loss(scores: Path) -> float | None:
    """The mean over all response tokens of NLL(y|T(x))."""
    columns = ["nll_response_given_instruction", "num_response_tokens"]
    table = intact_parquet(scores, columns, remedy="remove it and run the same command again")
    known = [row.values() for row in table.to_pylist() if None not in row.values()]
    tokens = sum(number for _, number in known)
    return sum(nll * number for nll, number in known) / tokens if tokens else None


def _judged(loop: Loop, judge: ModelConfig, number: int) -> dict[str, Any]:
    """Against iteration 0, and the one before."""
    first = _wins(loop, judge, number, 0)
    return {
        "wins_first": first,
        "wins_previous": first if number == 1 else _wins(loop, judge, number, number - 1),
    }


def _wins(loop: Loop, judge: ModelConfig, number: int, other: int) -> Wins:
    run: RunDir = iteration_of(loop.run, number)
    out = run.path / "held_out" / f"against-{other:02d}.json"
    options = judge_options(judge)
    loop.calls(
        "judge",
        a=run.path / HELD_OUT_ANSWERS,
        b=iteration_of(loop.run, other).path / HELD_OUT_ANSWERS,
        out=out,
        journal=None if judge.replies else loop.run.path / "journal",
        **options,
    )
    outcome = recompute(out)
    assert isinstance(outcome, PairOutcome)
    tally = outcome.tally
    return Wins(
        wins=tally.wins,
        ties=tally.ties,
        losses=tally.losses,
        score=tally.winning_score,
        interval=outcome.interval,
        unparsed=outcome.unparsed,
    )
