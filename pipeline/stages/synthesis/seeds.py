"""SEEDS -> the instructions that new ones are made after, each once."""

from collections.abc import Sequence
from dataclasses import dataclass

from ...config import SynthesizeConfig
from ...errors import CurateError
from ...inputs.evaluation.questions import Question, read_questions
from ...inputs.ingest import Intake
from ...inputs.readers import Source
from ...method.synthesis.items import SHOTS
from ...runs.instructions import Instruction


@dataclass(frozen=True, slots=True)
class Seeds:
    """The seeds as round 0 holds them, and how many rows repeat one."""

    rows: tuple[Instruction, ...]
    duplicates: int


def read_seeds(source: Source, config: SynthesizeConfig, intake: Intake) -> Seeds:
    """The seeds, in their order; a row that asks nothing is counted, or fatal if strict.

    Raises CurateError for one id with two contents, and for too few seeds of self-instruct or
    seeds of another language than its filters.
    """
    questions = read_questions(source, config.input, intake)
    by_text: dict[tuple[str, str], Instruction] = {}
    for one in questions:
        by_text.setdefault(("\n".join(one.turns), one.input), _seed(one, config))
    rows = tuple(by_text.values())
    if len({row.id for row in rows}) < len(rows):
        raise CurateError(f"{source.name}: one id stands for two different seeds")
    if config.method == "self-instruct":
        _check(source, rows, config.language)
    return Seeds(rows, len(questions) - len(rows))


def _seed(question: Question, config: SynthesizeConfig) -> Instruction:
    return Instruction(
        id=question.id,
        instruction="\n".join(question.turns),
        input=question.input,
        method=config.method,
        round=0,
    )


def _check(source: Source, seeds: Sequence[Instruction], language: str) -> None:
    texts = {seed.instruction for seed in seeds}
    if len(texts) < SHOTS:
        raise CurateError(
            f"{source.name} has {len(texts)} different instructions, and self-instruct shows "
            f"{SHOTS} at a time: give more seeds, or --method evol"
        )
    foreign = sum(not text.lstrip()[:1].isascii() for text in texts)
    if language == "en" and 2 * foreign > len(texts):
        raise CurateError(
            f"{foreign} of {len(texts)} seeds begin with no ASCII letter, and the filters of "
            "--language en would leave out what is made like them: give their --language"
        )
