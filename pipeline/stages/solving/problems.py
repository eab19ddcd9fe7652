"""The input of `curate solve` -> `problems/`: each with an answer that can be checked against."""

from collections.abc import Iterator
from dataclasses import dataclass

from ...config import SolveConfig
from ...errors import CurateError
from ...inputs.examples import chunks, extra_json
from ...inputs.ingest import Intake
from ...inputs.problems import read_problems, task_of
from ...inputs.readers import Source
from ...method.solutions.checkers import BadAnswer, gold_of
from ...records import user_turn
from ...runs.directory import RunDir
from ...runs.importing import SHARD, write_unused
from ...runs.samples import PROBLEMS, Problem, shards, write_shard
from .shot_sources import Shots
from .strategies import question_of


@dataclass(slots=True)
class LeftOut:
    """Problems that are not asked, beside the rows that cannot be used."""

    among_shots: int = 0
    solved_before: int = 0


def import_problems(
    run: RunDir, source: Source, config: SolveConfig, shots: Shots, intake: Intake
) -> LeftOut:
    """Write the problems as shards, in place of those of another limit.

    Raises CurateError where no problem is left.
    """
    left_out, records = LeftOut(), 0
    wanted = wanted_problems(source, config, shots, intake, left_out)
    for index, chunk in enumerate(chunks(wanted, SHARD)):
        write_shard(run, PROBLEMS, index, chunk)
        records += len(chunk)
    if not records:
        first = "".join(f"; the first, {row.place}: {row.reason}" for row in intake.rejected[:1])
        raise CurateError(
            f"{source.name} has no problem to ask: {left_out.among_shots} are among the shots, "
            f"{left_out.solved_before} were solved before, {intake.num_rejected} rows are "
            f"unusable{first}"
        )
    for left_over in shards(run)[-(-records // SHARD) :]:
        left_over.unlink()
    write_unused(run.path, intake)
    return left_out


def wanted_problems(
    source: Source, config: SolveConfig, shots: Shots, intake: Intake, left_out: LeftOut
) -> Iterator[Problem]:
    """The problems that are asked; the others are counted.

    An answer that cannot be checked against is rejected as a row; with `strict` it is an error.
    """
    shown = {shot.id for shot in shots.drawn} | {shot.question for shot in shots.drawn}
    for example in read_problems(source, config.input, config.answer_column, intake):
        problem = Problem(
            id=example.id,
            instruction=example.instruction,
            input=example.input,
            system=example.system,
            answer=example.output,
            task=task_of(example, config.task_column),
            extra=extra_json(example),
        )
        if problem.id in shown or question_of(problem) in shown:
            left_out.among_shots += 1
        elif problem.id in shots.solved:
            left_out.solved_before += 1
        elif reason := _bad_answer(problem, config):
            if config.input.strict:
                raise CurateError(f"{problem.id}: {reason} (--strict)")
            intake.records -= 1
            intake.reject(problem.id, reason)
        else:
            yield problem


def _bad_answer(problem: Problem, config: SolveConfig) -> str | None:
    question = user_turn(problem.instruction, problem.input)
    try:
        gold_of(problem.answer, question, config.rules.checker)
    except BadAnswer as error:
        return str(error)
    return None
