"""A problem's samples -> what each answered and whether that is right."""

from dataclasses import dataclass

from ...config import CheckerName
from ...method.solutions.checkers import (
    BadAnswer,
    Checked,
    Gold,
    Verdict,
    check,
    final_answers,
    gold_of,
)
from ...records import user_turn
from ...runs.samples import Attempted, Sample
from .math_process import MathProcess


@dataclass(frozen=True, slots=True)
class SampleVerdict:
    """The verdict on one sample; None where its reply was not to be checked."""

    sample: int
    answer: str | None
    verdict: Verdict | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class ProblemVerdicts:
    """A problem's verdicts; `bad_answer` says why its given answer cannot be checked against."""

    kind: str | None
    chance: float | None
    bad_answer: str | None
    samples: tuple[SampleVerdict, ...]


def judged(attempted: Attempted, checker: CheckerName, math: MathProcess) -> ProblemVerdicts:
    """Check all samples of a problem; a reply that is not whole is never right."""
    problem = attempted.problem
    question = user_turn(problem.instruction, problem.input)
    try:
        gold = gold_of(problem.answer, question, checker)
    except BadAnswer as error:
        left = (SampleVerdict(s.sample, None, None, s.reason) for s in attempted.samples)
        return ProblemVerdicts(None, None, str(error), tuple(left))
    found = tuple(_verdict(sample, gold, math) for sample in attempted.samples)
    return ProblemVerdicts(gold.kind, gold.chance, None, found)


def _verdict(sample: Sample, gold: Gold, math: MathProcess) -> SampleVerdict:
    if sample.status != "ok" or sample.reply is None:
        return SampleVerdict(sample.sample, None, None, sample.reason or sample.status)
    checked, reason = _checked(sample.reply, gold, math)
    return SampleVerdict(sample.sample, checked.answer, checked.verdict, reason)


def _checked(reply: str, gold: Gold, math: MathProcess) -> tuple[Checked, str | None]:
    if gold.kind != "math":
        return check(reply, gold), None
    answers = final_answers(reply, gold)
    if len(answers) != 1:
        return check(reply, gold), None
    outcome = math.compare(gold.value, answers[0])
    if outcome in ("equal", "different"):
        return Checked(answers[0], "correct" if outcome == "equal" else "wrong"), None
    return Checked(answers[0], "unanswered"), f"expression {outcome.replace('_', ' ')}"
