"""One program a task: an instructor analyses it and writes pseudo-code, which is never run."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ...config import ModelConfig, SolveConfig
from ...errors import RequestFailed
from ...llm.ask import Asker, ReadText
from ...llm.job import together
from ...llm.protocol import Reply
from ...method.replies.endings import answer_text, incomplete
from ...method.solutions.shots import Shot, draw
from ...runs.samples import Problem
from ...templates import asking_turn
from .strategies import question_of

EXAMPLES = 5
"""Problems of a task that the instructor sees, without their answers."""
PROMPTS = ("analyse_task", "write_pseudocode")
NO_PROGRAM = "no pseudo-code"
Examples = Mapping[str | None, Sequence[Shot]]
_FENCED = re.compile(r"^```[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_FUNCTION = re.compile(r"^[ \t]*def[ \t]+\w+[ \t]*\(", re.MULTILINE)
_PRINT = re.compile(r"\bprint\b")
_RETURN = re.compile(r"^[ \t]+return\b.*$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A task's analysis and pseudo-code, None where there is none; and what the instructor saw."""

    task: str | None
    examples: tuple[str, ...]
    analysis: str | None = None
    analysis_key: str | None = None
    pseudocode: str | None = None
    pseudocode_key: str | None = None
    reason: str | None = None


async def write_programs(asker: Asker, examples: Examples) -> list[Program]:
    """Ask for each task's program; tasks side by side."""
    return await together(_program(asker, task, shown) for task, shown in examples.items())


def instructor_of(config: SolveConfig) -> ModelConfig:
    """The model that writes programs, greedily: the teacher where no other one is named."""
    teacher = config.teacher
    return replace(
        teacher,
        model=config.instructor or teacher.model,
        base_url=config.instructor_url or teacher.base_url,
        revision=None if config.instructor else teacher.revision,
        temperature=0.0,
    )


def examples_by_task(problems: Iterable[Problem], *, seed: int) -> Examples:
    """Some problems of each task, drawn by the seed."""
    found: dict[str | None, list[Shot]] = {}
    for problem in problems:
        every = [*found.get(problem.task, ()), Shot(problem.id, question_of(problem))]
        found[problem.task] = draw(every, EXAMPLES, seed=seed)
    return found


async def _program(asker: Asker, task: str | None, examples: Sequence[Shot]) -> Program:
    """The analysis, then the pseudo-code; or the reason why there is none."""
    shown = "\n\n".join(shot.question for shot in examples)
    found = Program(task=task, examples=tuple(shot.id for shot in examples))
    id = task or "all"
    try:
        request = asking_turn(PROMPTS[0], examples=shown)
        analysis = await asker.ask(request, id=id, slot=PROMPTS[0], read=read_text)
        found = replace(found, analysis=analysis.reading.text, analysis_key=analysis.key)
        if analysis.reading.status != "ok":
            return replace(found, reason=analysis.reading.reason)
        request = asking_turn(PROMPTS[1], analysis=analysis.reading.text, examples=shown)
        written = await asker.ask(request, id=id, slot=PROMPTS[1], read=read_program)
    except RequestFailed as error:
        return replace(found, reason=str(error))
    reading = written.reading
    code = reading.text if reading.status == "ok" else None
    return replace(found, pseudocode=code, pseudocode_key=written.key, reason=reading.reason)


def read_text(reply: Reply) -> ReadText:
    """A reply's text without reasoning."""
    if (ended := incomplete(reply.finish_reason)) is not None:
        return ReadText(reply.text, *ended)
    return ReadText(answer_text(reply.text).strip())


def read_program(reply: Reply) -> ReadText:
    """The pseudo-code of a reply up to its last return; `unparsed` without function or print."""
    found = read_text(reply)
    if found.status != "ok":
        return found
    fenced = [m[1] for m in _FENCED.finditer(found.text) if _FUNCTION.search(m[1])]
    code = fenced[0] if fenced else found.text
    for pattern, what in ((_FUNCTION, "function"), (_PRINT, "print")):
        if not pattern.search(code):
            return ReadText(code, "unparsed", f"{NO_PROGRAM}: it has no {what}")
    begin = _FUNCTION.search(code)
    returns = [match.end() for match in _RETURN.finditer(code)]
    end = returns[-1] if returns else len(code)
    return ReadText(code[begin.start() if begin and not fenced else 0 : end].strip("\n"))
