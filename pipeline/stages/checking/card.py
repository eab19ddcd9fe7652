"""The card that lies with `solved/`, and the result in words."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ...config import CheckRules
from ...method.solutions.accuracy import TaskAccuracy
from ...runs.directory import RunDir
from ...runs.published.card import card, counts_table, noted, source_fact

if TYPE_CHECKING:
    from .stage import CheckResult

_ASKED = (
    "teacher", "revision", "strategy", "samples", "temperature", "seed", "shots", "instructor",
)  # fmt: skip


def solved_card(
    run: RunDir, rules: CheckRules, solved: int, rows: int, unsolved: Mapping[str, int]
) -> str:
    """What the set is, from what, and how its answers were checked; Markdown."""
    return card(
        "Verified solutions",
        "Replies whose final answer equals the given one; the prompt of a row is the bare "
        "question, whatever the model was asked with. A right answer may come with wrong "
        "reasoning.",
        licence=run.config.get("licence"),
        rows=rows,
        tags=("reasoning", "rejection-sampling"),
        facts=[
            source_fact(run, "Input"),
            *noted(run.config["identity"], _ASKED),
            f"- checker: `{rules.checker}`; at most {rules.keep} rows a problem; pass rates from "
            f"{rules.min_pass_rate:g} to {rules.max_pass_rate:g}",
        ],
        what=[
            f"{solved} problems solved, {rows} rows; the others are in `unsolved/`.",
            "",
            *counts_table("unsolved because", unsolved),
        ],
        terms="the solutions are the model's output, and its terms of use apply to them.",
    )


def lines(result: "CheckResult") -> Iterator[str]:
    """For people."""
    yield (
        f"solved {result.solved} of {result.problems} problems, {result.rows} rows: "
        f"{result.run / 'solved'}"
    )
    yield f"samples ({result.checker}): {_counted(result.samples)}"
    if result.unsolved:
        yield f"unsolved: {_counted(result.unsolved)}: {result.run / 'unsolved'}"
    for one in result.tasks:
        yield _accuracy(one)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items())) or "none"


def _accuracy(found: TaskAccuracy) -> str:
    low, high = found.interval
    line = (
        f"{found.task or 'all'}: accuracy {found.accuracy:.1%} [{low:.1%}, {high:.1%}], "
        f"{found.problems} problems, {found.samples} samples"
    )
    if found.chance is None or found.lucky is None:
        return line
    return f"{line}; guessing {found.chance:.1%}, at least one right {found.lucky:.1%}"
