"""The stage of a run of `curate synthesize`."""

from ...base.tables import many
from ...runs.directory import RunDir
from ...runs.instructions import ABOVE_NUMBER, counted, rounds
from .stage_status import StageStatus, command_line, state_of


def holds_instructions(run: RunDir) -> bool:
    """Whether a run is of new instructions."""
    return bool(run.config["identity"].get("command") == "synthesize")


def synthesized(run: RunDir, path: str, *, working: bool) -> StageStatus:
    """The stage; `counts` are the reasons of what finished rounds left out."""
    number = int((run.stage("synthesize") or run.config["options"])["number"])
    kept, counts = counted(run, number)
    del counts[ABOVE_NUMBER]
    done = len(set(kept))
    return StageStatus(
        stage="synthesize",
        state=state_of(finished=run.stage("synthesize") is not None, working=working),
        done=done,
        unit="instructions",
        total=number,
        left=number - done,
        counts=dict(counts),
        notes=(many(max(len(rounds(run)) - 1, 0), "round"),),
        command=command_line("synthesize", **{**run.config["options"], "out": path}),
    )
