"""The stages of a run of `curate solve`, or of samples from elsewhere that `curate check` took."""

from collections.abc import Iterator
from dataclasses import replace

from ...runs.directory import RunDir
from ...runs.samples import SAMPLES, num_problems, shards
from ...runs.shard_counts import value_counts
from .candidates import journal_of, with_replies
from .stage_status import StageStatus, left_of, state_of


def holds_problems(run: RunDir) -> bool:
    """Whether a run is of problems with answers."""
    return run.config["identity"].get("command") in ("solve", "check")


def solving(run: RunDir, working: set[str]) -> Iterator[StageStatus]:
    """The samples, and the last check of them, if there was one."""
    yield _sampled(run, working)
    if (entry := run.stage("check")) is not None:
        yield StageStatus(
            stage=f"check/{entry['checker']}",
            state=state_of(finished=True, working="check" in working),
            done=entry["problems"],
            unit="problems",
            total=entry["problems"],
            left=0,
            counts=entry["samples"],
            selected=entry["rows"],
            notes=(f"{entry['solved']:,} problems solved, {entry['rows']:,} rows",),
        )


def _sampled(run: RunDir, working: set[str]) -> StageStatus:
    stage = "solve" if run.config["identity"]["command"] == "solve" else "import"
    found, damaged = value_counts(shards(run, SAMPLES), ["status"])
    counts = {str(status): number for (status,), number in found.items()}
    retryable = {name: number for name, number in counts.items() if name != "ok"}
    total = None
    if stage == "solve":
        total = num_problems(run) * int(run.config.get("options", {}).get("samples", 4))
    known = StageStatus(
        stage=stage,
        state=state_of(finished=run.stage(stage) is not None, working=bool(working - {"check"})),
        done=sum(counts.values()),
        unit="samples",
        total=total,
        failed=sum(retryable.values()),
        retryable=retryable,
        damaged_shards=damaged,
        counts=counts,
    )
    if known.state != "finished" and stage == "solve":
        journal = journal_of(run, {})
        known = replace(with_replies(known, journal, 1, total), per_second=journal.per_second)
    return replace(known, left=left_of(total, known.done))
