"""Checked problems -> the rows of `solved/` and `unsolved/`."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from ...config import CheckRules
from ...records import MESSAGES_TYPE, conversation, typed
from ...runs.published.selected import further
from ...runs.samples import SAMPLE_STATUSES, Attempted, Problem, Sample
from .verdicts import ProblemVerdicts

BAD_ANSWER = "bad_answer"
COUNTED = ("correct", "wrong", "ambiguous", "unanswered", *SAMPLE_STATUSES[1:])
"""What a sample counts as: its verdict, or why there is none; `unchecked` beside a bad answer."""
SOLVED_SCHEMA = pa.schema(
    [
        *typed(pa.string(), "id", "instruction", "input", "output"),
        pa.field("messages", MESSAGES_TYPE),
        *typed(pa.string(), "answer", "task", "strategy", "checker"),
        *typed(pa.int64(), "sample"),
        *typed(pa.float64(), "pass_rate"),
        *typed(pa.int64(), "num_samples"),
    ]
)
UNSOLVED_SCHEMA = pa.schema(
    [
        *typed(pa.string(), "id", "instruction", "input", "answer", "task", "strategy", "reason"),
        *typed(pa.float64(), "pass_rate"),
        *typed(pa.int64(), "num_samples", *(f"num_{name}" for name in COUNTED)),
    ]
)


def outcomes(attempted: Attempted, verdicts: ProblemVerdicts) -> Counter[str]:
    """How many samples count as what."""
    return Counter(
        verdict.verdict or (sample.status if sample.status != "ok" else "unchecked")
        for sample, verdict in zip(attempted.samples, verdicts.samples, strict=True)
    )


def pass_rate(counts: Counter[str]) -> float | None:
    """The right ones among all samples that came; None where none came."""
    came = sum(counts.values()) - counts["failed"]
    return counts["correct"] / came if came else None


def unsolved_reason(
    verdicts: ProblemVerdicts, counts: Counter[str], rules: CheckRules
) -> str | None:
    """Why a problem gives no training row; None where it gives one."""
    if verdicts.bad_answer is not None:
        return f"{BAD_ANSWER}: {verdicts.bad_answer}"
    rate = pass_rate(counts)
    if rate is None:
        return "failed" if counts else "no samples"
    if not counts["correct"]:
        return next(name for name in COUNTED if counts[name])
    if rate < rules.min_pass_rate:
        return "below_min_pass_rate"
    return "above_max_pass_rate" if rate > rules.max_pass_rate else None


def solved_rows(
    attempted: Attempted, verdicts: ProblemVerdicts, rules: CheckRules, strategy: str
) -> Iterator[dict[str, Any]]:
    """The first right solutions, each text once: the bare question and the rationale."""
    problem, counts = attempted.problem, outcomes(attempted, verdicts)
    for number, sample in enumerate(right_samples(attempted, verdicts)[: rules.keep]):
        assert sample.reply is not None
        reply = sample.reply.strip()
        turns = conversation(
            [problem.instruction], [reply], input=problem.input, system=problem.system
        )
        yield {
            **further(problem.extra, SOLVED_SCHEMA),
            **_about(problem, strategy),
            "id": problem.id if number == 0 else f"{problem.id}#{sample.sample}",
            "output": reply,
            "messages": [dict(turn) for turn in turns],
            "checker": verdicts.kind,
            "sample": sample.sample,
            "pass_rate": pass_rate(counts),
            "num_samples": sum(counts.values()),
        }


def unsolved_row(
    attempted: Attempted, verdicts: ProblemVerdicts, reason: str, strategy: str
) -> dict[str, Any]:
    """The problem with its reason and counts."""
    counts = outcomes(attempted, verdicts)
    return {
        **further(attempted.problem.extra, UNSOLVED_SCHEMA),
        **_about(attempted.problem, strategy),
        "reason": reason,
        "pass_rate": pass_rate(counts),
        "num_samples": sum(counts.values()),
        **{f"num_{name}": counts[name] for name in COUNTED},
    }


def right_samples(attempted: Attempted, verdicts: ProblemVerdicts) -> list[Sample]:
    """The samples that are right, of equal texts the first."""
    found: dict[str, Sample] = {}
    for sample, verdict in zip(attempted.samples, verdicts.samples, strict=True):
        if verdict.verdict == "correct":
            found.setdefault(" ".join((sample.reply or "").split()), sample)
    return list(found.values())


def _about(problem: Problem, strategy: str) -> dict[str, Any]:
    return {
        "id": problem.id,
        "instruction": problem.instruction,
        "input": problem.input,
        "answer": problem.answer,
        "task": problem.task,
        "strategy": strategy,
    }
