"""How a problem is put to the model: a constant part first, the same in all requests, then it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...config import Strategy
from ...method.solutions.shots import Shot
from ...records import Message, system_turns, user_turn
from ...runs.samples import Problem
from ...templates import digest, fill, shipped

_FILES: Mapping[Strategy, str] = {
    "direct": "solve_direct",
    "cot": "solve_cot",
    "many-shot": "solve_many_shot",
    "unsupervised": "solve_unsupervised",
    "pseudocode": "solve_pseudocode",
}
_QUESTION = "{question}"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A strategy's prompt. `programs` holds each task's pseudo-code, where that is the strategy."""

    strategy: Strategy
    shots: str = ""
    programs: Mapping[str | None, str] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """The hash of the prompt's text, and of the shots in it: a part of each request's key."""
        return digest(shipped(_FILES[self.strategy]), self.shots)

    def constant(self) -> str:
        """What stands before the question, without a task's pseudo-code."""
        return self._parts(None)[0]

    def messages(self, problem: Problem) -> tuple[Message, ...]:
        """The record's system turn, if it has one, and one user turn."""
        before, after = self._parts(problem.task)
        asked = {"role": "user", "content": before + question_of(problem) + after}
        return (*system_turns(problem.system), asked)

    def _parts(self, task: str | None) -> tuple[str, str]:
        before, _, after = shipped(_FILES[self.strategy]).partition(_QUESTION)
        program = self.programs.get(task, "")
        return fill(before, shots=self.shots, pseudocode=program), after


def question_of(problem: Problem) -> str:
    """The question with its input."""
    return user_turn(problem.instruction, problem.input)


def shot_block(shots: Sequence[Shot], strategy: Strategy) -> str:
    """The shots as one text; unsupervised ones have no solution."""
    form = shipped("shot_unsolved" if strategy == "unsupervised" else "shot_solved")
    return "\n\n".join(fill(form, question=s.question, solution=s.solution or "") for s in shots)
