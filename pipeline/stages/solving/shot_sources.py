"""`--shots RUN|FILE` -> the shots: a run's verified solutions, or a data set's."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...config import InputConfig, SolveConfig
from ...errors import CurateError, UsageError
from ...inputs.columns.column_names import columns_of
from ...inputs.problems import QUESTIONS
from ...inputs.readers import Row, Source, open_source
from ...method.solutions.shots import Shot, draw
from ...records import user_turn
from ...runs.directory import is_run

SOLUTIONS = ("output", "solution", "rationale", "response")


@dataclass(frozen=True, slots=True)
class Shots:
    """The shots in their order, and the ids of all problems that their run has solved."""

    drawn: tuple[Shot, ...] = ()
    solved: frozenset[str] = frozenset()


def read_shots(config: SolveConfig) -> Shots:
    """Draw the shots; none where the strategy takes none.

    Raises UsageError for many-shot from data without solutions, CurateError for no shots at all.
    """
    if config.shots is None:
        return Shots()
    of_run = is_run(config.shots)
    if of_run and not (Path(config.shots) / "solved").is_dir():
        raise CurateError(f"--shots {config.shots} has no solved/ yet: run `curate check` on it")
    source = open_source(f"{config.shots}/solved" if of_run else config.shots)
    found = list(_shots(source, config))
    # Of several solutions of one problem the first; the others are called ID#SAMPLE.
    drawn = draw(found, config.num_shots, seed=config.shots_seed)
    if not drawn:
        raise CurateError(f"--shots {config.shots} holds no problem to show")
    return Shots(tuple(drawn), frozenset(shot.id for shot in found) if of_run else frozenset())


def _shots(source: Source, config: SolveConfig) -> Iterator[Shot]:
    columns = columns_of(source)
    question = config.input.instruction_column or next(
        (name for name in QUESTIONS if name in columns), QUESTIONS[0]
    )
    solution = next((name for name in SOLUTIONS if name in columns), None)
    if config.strategy == "many-shot" and solution is None:
        raise UsageError(
            f"--strategy many-shot shows solutions, and {source.name} has none of the columns "
            f"{', '.join(SOLUTIONS)}; its columns are {', '.join(columns)}"
        )
    for row in source.rows():
        shot = _shot(row, question, solution, config.input) if isinstance(row, Row) else None
        if shot is not None and (shot.solution or config.strategy == "unsupervised"):
            yield shot


def _shot(row: Row, question: str, solution: str | None, config: InputConfig) -> Shot | None:
    asked, given = row.values.get(question), row.values.get(config.input_column or "input")
    if not isinstance(asked, str) or not asked.strip():
        return None
    text = user_turn(asked, given if isinstance(given, str) else "")
    shown = row.values.get(solution) if solution else None
    id = row.values.get("id")
    return Shot(
        text if id in (None, "") else str(id), text, shown if isinstance(shown, str) else None
    )
