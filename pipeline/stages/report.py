"""`curate report`: what was kept and why, as one HTML page to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from ..base.files import write_text
from ..base.foreign_json import parse_json
from ..errors import CurateError
from ..reporting.figures.catalogue import status_bars, student_panels
from ..reporting.loop import loop_page
from ..reporting.numbers.contents import run_numbers, student_numbers
from ..reporting.numbers.made import made_of
from ..reporting.numbers.reading import StudentTables, candidate_rows, read_student, student_keys
from ..reporting.page import StudentPage, page
from ..reporting.records import write_records
from ..runs.directory import RunDir
from ..runs.loop import history, is_loop, loop_state


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportResult:
    """The page, whom it shows, and what it says is not finished."""

    out: Path
    records: int
    students: list[str]
    notices: list[str]


def report(path: str, *, out: Path | None = None, selections: Sequence[str] = ()) -> ReportResult:
    """Write the report of a run, finished or not; of all its selections unless some are named.

    Beside the page, `<page>.<selection>.jsonl` has each record that was decided about.
    """
    run = RunDir.open(path)
    out = out or run.path / "report.html"
    if out.is_dir():
        raise CurateError(f"--out {out} is a folder: name a file")
    if is_loop(path):
        return _of_loop(run, out)
    keys = student_keys(run, selections)
    candidates = candidate_rows(run)
    about = run_numbers(run, candidates)
    parts: list[StudentPage] = []
    for place, key in enumerate(keys):
        read = read_student(run, key)
        numbers = student_numbers(run, candidates, about, read)
        panels = student_panels(candidates, read, numbers, f"s{place}-")
        beside = out.with_name(f"{out.stem}.{key}.jsonl")
        records = write_records(run, read, beside) if read.decided else None
        shared = _shared(parts[0].student if parts else read, read)
        parts.append(
            StudentPage(
                student=read, numbers=numbers, panels=panels, records=records, shared=shared
            )
        )
    statuses = status_bars(about) if about.records else None
    facts = {
        "name": run.path.resolve().name,
        "config": run.config,
        "versions": run.manifest.get("versions", {}),
        "unused_rows": _unused(run.path / "rejected_input.json"),
    }
    write_text(out, page(facts, about, statuses, parts, made_of(run)))
    notices = [*about.notices, *(f"{p.student.key}: {n}" for p in parts for n in p.numbers.notices)]
    if about.records and not keys:
        notices.append("No student has selected yet.")
    return ReportResult(out=out, records=about.records, students=keys, notices=notices)


def _shared(first: StudentTables, other: StudentTables) -> int:
    """How many records both keep."""
    both = pc.is_in(other.kept.column("id"), first.kept.column("id").combine_chunks())
    return int(pc.sum(both).as_py() or 0)


def _of_loop(run: RunDir, out: Path) -> ReportResult:
    found, state = history(run), loop_state(run)
    write_text(
        out, loop_page(run.path.resolve().name, run.config, found, state.best, state.stopped)
    )
    notices = [] if state.step is None else ["The loop has not ended."]
    records = run.stage("data") or {}
    return ReportResult(out=out, records=records.get("records", 0), students=[], notices=notices)


def _unused(path: Path) -> list[dict[str, str]]:
    """The input rows that could not be used, as far as they are listed."""
    if not path.exists():
        return []
    try:
        found = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CurateError(f"cannot read {path}: {error}") from None
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
