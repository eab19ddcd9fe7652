"""The stages of a run of `curate solve`, or of samples from elsewhere that `curate check` took."""

from collections.abc import Iterator
from typing import Any

from ...runs.directory import RunDir
from ...runs.samples import SAMPLES, num_problems, shards
from ...runs.shard_counts import value_counts


def holds_problems(run: RunDir) -> bool:
    """Whether a run is of problems with answers."""
    return run.config["identity"].get("command") in ("solve", "check")


def sampled(run: RunDir) -> dict[str, Any]:
    """The fields of the stage that made the samples."""
    command = str(run.config["identity"]["command"])
    stage = command if command == "solve" else "import"
    found, damaged = value_counts(shards(run, SAMPLES), ["status"])
    counts = {str(status): number for (status,), number in found.items()}
    done, total = sum(counts.values()), None
    if stage == "solve":
        total = num_problems(run) * int(run.config.get("options", {}).get("samples", 4))
    return {
        "stage": stage,
        "done": done,
        "total": total,
        "left": None if total is None else max(total - done, 0),
        "failed": sum(number for status, number in counts.items() if status != "ok"),
        "damaged_shards": damaged,
        "counts": counts,
    }


def checked(run: RunDir) -> Iterator[dict[str, Any]]:
    """The fields of the last check, if there was one."""
    if (entry := run.stage("check")) is not None:
        yield {
            "stage": f"check/{entry['checker']}",
            "done": entry["problems"],
            "total": entry["problems"],
            "left": 0,
            "counts": entry["samples"],
            "notes": (f"{entry['solved']} problems solved, {entry['rows']} rows",),
        }
