"""What is noted on disk of batch jobs that were submitted and not collected."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ....base.foreign_json import parse_json
from ....errors import CurateError


@dataclass(slots=True, kw_only=True)
class Job:
    """One batch job as it is noted: `requests` by key, as (id, slot, max_tokens, ceiling)."""

    name: str
    run: str
    file: str
    batch: str | None = None
    requests: dict[str, tuple[str, Any, int, int]]
    found: bool = field(default=False, compare=False)
    """Taken up from an earlier invocation."""


def submitted(folder: Path, run: str) -> list[Job]:
    """The jobs of a run that were noted and not collected; CurateError for a damaged note."""
    jobs = []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        try:
            note = parse_json(path.read_bytes())
            requests = {key: tuple(about) for key, about in note.pop("requests").items()}
            jobs.append(Job(**note, requests=requests, found=True))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CurateError(f"cannot read the note of a batch job, {path}: {error}") from error
    return [job for job in jobs if job.run == run]
