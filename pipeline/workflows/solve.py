"""`curate solve`: sample, then check what was sampled."""

from collections.abc import Callable
from dataclasses import dataclass

from ..config import SolveConfig
from ..runs.directory import RunDir
from ..stages.checking.stage import CheckResult, check_run
from ..stages.solving.stage import SolveResult, solve


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """What each stage did."""

    sampled: SolveResult
    checked: CheckResult


def solve_and_check(
    config: SolveConfig, *, done: Callable[[SolveResult], None] = lambda _: None
) -> Solved:
    """Both stages; `curate check` decides anew without a call. `done` is told the samples."""
    sampled = solve(config)
    done(sampled)
    return Solved(sampled=sampled, checked=check_run(RunDir(sampled.run), config.rules))
