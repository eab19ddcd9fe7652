"""The stage of a run of `curate synthesize`."""

from ...runs.directory import RunDir
from ...runs.instructions import ABOVE_NUMBER, outcomes, rounds
from .stage_status import StageStatus, command_line, state_of


def holds_instructions(run: RunDir) -> bool:
    """Whether a run is of new instructions."""
    return bool(run.config["identity"].get("command") == "synthesize")


def synthesized(run: RunDir, path: str, *, working: bool) -> StageStatus:
    """The stage; `counts` are the reasons of what finished rounds left out."""
    number = int((run.stage("synthesize") or run.config["options"])["number"])
    kept: set[str] = set()
    counts: dict[str, int] = {}
    for row in outcomes(run, number):
        if row.reason is None:
            kept.add(row.own_id)
        elif row.reason != ABOVE_NUMBER:
            counts[row.reason] = counts.get(row.reason, 0) + 1
    return StageStatus(
        stage="synthesize",
        state=state_of(finished=run.stage("synthesize") is not None, working=working),
        done=len(kept),
        unit="instructions",
        total=number,
        left=number - len(kept),
        counts=counts,
        notes=(f"{max(len(rounds(run)) - 1, 0)} rounds",),
        command=command_line("synthesize", **{**run.config["options"], "out": path}),
    )
